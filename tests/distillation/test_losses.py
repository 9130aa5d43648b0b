import math
from itertools import pairwise

import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from missu_nnunet.distillation.losses import (
    SelfDistillationLoss,
    TrainingOutput,
    level_weights,
    sigmoid_kl,
    softmax_kl,
)


def logits(seed: int, scale: float = 3.0) -> Tensor:
    return torch.randn(2, 4, 3, 5, 2, generator=torch.Generator().manual_seed(seed)) * scale


@given(seed=st.integers(0, 2**31), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_softmax_kl_is_the_divergence_of_the_class_distributions(seed: int, temperature: float) -> None:
    teacher, student = logits(seed), logits(seed + 1)
    expected = kl_divergence(
        Categorical(logits=teacher.movedim(1, -1) / temperature),
        Categorical(logits=student.movedim(1, -1) / temperature),
    )
    actual = softmax_kl(teacher, student, temperature)
    torch.testing.assert_close(actual, expected.mean() * temperature**2, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 2**31), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_sigmoid_kl_is_the_divergence_of_each_region(seed: int, temperature: float) -> None:
    teacher, student = logits(seed), logits(seed + 1)
    expected = kl_divergence(
        Bernoulli(logits=teacher.double() / temperature), Bernoulli(logits=student.double() / temperature)
    ).float()
    actual = sigmoid_kl(teacher, student, temperature)
    torch.testing.assert_close(actual, expected.sum(dim=1).mean() * temperature**2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("divergence", [softmax_kl, sigmoid_kl])
def test_the_student_learns_and_the_teacher_does_not(divergence: object) -> None:
    teacher, student = logits(0).requires_grad_(), logits(1).requires_grad_()
    divergence(teacher, student, 2.0).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("divergence", [softmax_kl, sigmoid_kl])
def test_a_student_like_its_teacher_has_nothing_to_learn(divergence: object) -> None:
    student = logits(0).requires_grad_()
    loss = divergence(logits(0), student, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("divergence", [softmax_kl, sigmoid_kl])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_under_autocast_with_large_activations(divergence: object, dtype: torch.dtype) -> None:
    teacher, student = logits(0, scale=1e4).to(dtype), logits(1, scale=1e4).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = divergence(teacher, student, 1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@given(n_levels=st.integers(1, 8), decay=st.sampled_from([0.25, 0.5, 1.0]))
def test_level_weights_fall_by_the_decay_and_sum_to_one(n_levels: int, decay: float) -> None:
    weights = level_weights(n_levels, decay)
    assert math.isclose(sum(weights), 1)
    assert all(math.isclose(deeper, finer * decay) for finer, deeper in pairwise(weights))


def mean_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs().mean()


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    criterion = SelfDistillationLoss(mean_error, mean_error, w_aux=0.25, w_kd=2.0, level_decay=0.5)
    target = torch.ones(1, 1, 4, 4)
    output = TrainingOutput(target + 3, [target + 1, target[..., ::2, ::2] + 4], torch.tensor(5.0))
    aux = (2 * 1 + 1 * 4) / 3
    assert criterion(output, target).item() == pytest.approx(3 + 0.25 * aux + 2 * 5)
    assert {name: term.item() for name, term in criterion.terms.items()} == pytest.approx(
        {"seg_loss": 3, "aux_loss": aux, "kd_loss": 5}
    )


def test_plain_output_has_the_segmentation_loss_alone() -> None:
    criterion = SelfDistillationLoss(mean_error, mean_error, w_aux=0.25, w_kd=2.0, level_decay=0.5)
    target = torch.ones(1, 1, 4, 4)
    assert criterion(target + 3, target).item() == pytest.approx(3)
    assert criterion.terms["aux_loss"] == criterion.terms["kd_loss"] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_heads_are_supervised_by_the_targets_nnunet_gives_a_level(channels: int) -> None:
    seen: list[Tensor] = []

    def spy(prediction: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return prediction.sum()

    target = torch.randint(0, 4, (1, channels, 8, 12, 8), dtype=torch.int16)
    by_nnunet = DownsampleSegForDSTransform([0.5, 0.25])(segmentation=target[0])["segmentation"]
    heads = [torch.zeros(1, 4, *level.shape[1:]) for level in by_nnunet]
    SelfDistillationLoss(mean_error, spy, 1, 1, 0.5)(TrainingOutput(target.float(), heads, torch.zeros(())), target)
    assert all(torch.equal(ours[0], nnunet) for ours, nnunet in zip(seen, by_nnunet, strict=True))

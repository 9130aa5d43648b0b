import math
from collections.abc import Callable
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
    consistency,
    level_weights,
    softmax_kl,
)


def logits(seed: int, scale: float = 3.0) -> Tensor:
    return torch.randn(2, 4, 3, 5, 2, generator=torch.Generator().manual_seed(seed)) * scale


@given(seed=st.integers(0, 2**31))
def test_softmax_kl_is_the_divergence_of_the_channel_distributions(seed: int) -> None:
    teacher, student = logits(seed), logits(seed + 1)
    expected = kl_divergence(Categorical(logits=teacher.movedim(1, -1)), Categorical(logits=student.movedim(1, -1)))
    torch.testing.assert_close(softmax_kl(teacher, student), expected.mean(), rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 2**31))
def test_consistency_is_the_divergence_of_the_posteriors_and_the_teachers_entropy(seed: int) -> None:
    teacher, student = logits(seed).double(), logits(seed + 1)
    classes = Categorical(logits=teacher.movedim(1, -1)), Categorical(logits=student.double().movedim(1, -1))
    regions = Bernoulli(logits=teacher), Bernoulli(logits=student.double())
    for posterior, (first, second), overlapping in (
        (teacher.softmax(dim=1), classes, False),
        (teacher.sigmoid(), regions, True),
    ):
        expected = (kl_divergence(first, second) + first.entropy()).mean().float()
        torch.testing.assert_close(consistency(posterior.float(), student, overlapping), expected, rtol=1e-3, atol=1e-4)


def test_the_student_learns_and_the_teacher_does_not() -> None:
    teacher, student = logits(0).requires_grad_(), logits(1).requires_grad_()
    softmax_kl(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_a_student_equal_to_its_teacher_has_zero_loss() -> None:
    for loss_of in (
        lambda student: softmax_kl(logits(0), student),
        lambda student: consistency(logits(0).softmax(dim=1), student, regions=False),
        lambda student: consistency(logits(0).sigmoid(), student, regions=True),
    ):
        student = logits(0).requires_grad_()
        loss_of(student).backward()
        assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("regions", [False, True])
def test_finite_under_autocast_with_large_activations(regions: bool, dtype: torch.dtype) -> None:
    teacher, student = logits(0, scale=1e4).to(dtype), logits(1, scale=1e4).to(dtype).requires_grad_()
    posterior = teacher.float().sigmoid() if regions else teacher.float().softmax(dim=1)
    with torch.autocast("cpu", dtype=dtype):
        loss = softmax_kl(teacher, student) + consistency(posterior, student, regions)
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


def loss_of(auxiliary_loss: Callable = mean_error) -> SelfDistillationLoss:
    return SelfDistillationLoss(mean_error, auxiliary_loss, regions=False, w_kd=2.0, w_aux=0.25, level_decay=0.5)


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    criterion = loss_of()
    target = torch.ones(1, 1, 4, 4)
    teachers, students = [logits(0), logits(1)], [logits(2), logits(3)]
    output = TrainingOutput(target + 3, [target + 1, target[..., ::2, ::2] + 4], teachers, students)
    aux = (2 * 1 + 1 * 4) / 3
    kd = (2 * softmax_kl(teachers[0], students[0]) + softmax_kl(teachers[1], students[1])).item() / 3
    assert criterion(output, target).item() == pytest.approx(3 + 0.25 * aux + 2 * kd)
    assert {name: term.item() for name, term in criterion.terms.items()} == pytest.approx(
        {"seg_loss": 3, "aux_loss": aux, "kd_loss": kd}
    )


def test_plain_output_has_the_segmentation_loss_alone() -> None:
    criterion = loss_of()
    target = torch.ones(1, 1, 4, 4)
    assert criterion(target + 3, target).item() == pytest.approx(3)
    assert criterion.terms["aux_loss"] == criterion.terms["kd_loss"] == 0


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_a_posterior_is_compared_with_the_patches_after_those_with_a_target(deep_supervision: bool) -> None:
    criterion = loss_of()
    criterion.posterior = logits(0).softmax(dim=1)
    labelled, mixed = logits(1), logits(2)
    batch = torch.cat((labelled, mixed))
    seen: list[Tensor] = []

    def spy(prediction: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        seen.extend(prediction if isinstance(prediction, list) else [prediction])
        return torch.zeros(())

    criterion.segmentation_loss = spy
    output, target = ([batch, batch[..., ::2]], [labelled, labelled]) if deep_supervision else (batch, labelled)
    loss = criterion(output, target)
    torch.testing.assert_close(loss, 2 * consistency(criterion.posterior, mixed, regions=False))
    assert torch.equal(seen[0], labelled)
    if deep_supervision:
        assert torch.equal(seen[1], labelled[..., ::2])


@pytest.mark.parametrize("channels", [1, 3])
def test_heads_are_supervised_by_the_targets_nnunet_gives_a_level(channels: int) -> None:
    seen: list[Tensor] = []

    def spy(prediction: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return prediction.sum()

    target = torch.randint(0, 4, (1, channels, 8, 12, 8), dtype=torch.int16)
    by_nnunet = DownsampleSegForDSTransform([0.5, 0.25])(segmentation=target[0])["segmentation"]
    heads = [torch.zeros(1, 4, *level.shape[1:]) for level in by_nnunet]
    loss_of(spy)(TrainingOutput(target.float(), heads, [], []), target)
    assert all(torch.equal(ours[0], nnunet) for ours, nnunet in zip(seen, by_nnunet, strict=True))

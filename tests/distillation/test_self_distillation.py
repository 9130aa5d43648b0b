from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_plans import plain_arch_kwargs, plans

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.losses import TrainingOutput
from missu_nnunet.distillation.self_distillation import SelfDistillation
from missu_nnunet.hyperparameters import Hyperparameters

DEFAULTS = Hyperparameters()
PLAN, PATCH = plain_arch_kwargs([[1, 1, 1]] + [[2, 2, 2]] * 3), (16, 16, 24)

hyperparameters = st.builds(
    replace,
    st.just(DEFAULTS),
    teacher=st.just("fusion"),
    student=st.sampled_from(["features", "posterior"]),
    supervise_encoder=st.booleans(),
    finest_level=st.integers(0, 2),
) | st.just(Hyperparameters(teacher="skip", student="features"))


def attached(
    plan: dict, patch_size: tuple[int, ...], hp: Hyperparameters = DEFAULTS, regions: bool = False
) -> SelfDistillation:
    torch.manual_seed(0)
    network = MISSU(2, num_classes=3, deep_supervision=True, **missu_arch_kwargs(plan, patch_size))
    network.apply(network.initialize)
    return SelfDistillation(network, 3, regions, hp)


def total(output: TrainingOutput) -> torch.Tensor:
    logits = [*output.segmentation, *output.auxiliary]
    return sum(x.square().mean() for x in logits) + output.distillation


@given(plan=plans(), hp=hyperparameters, regions=st.booleans())
def test_every_plan_gives_every_parameter_a_finite_gradient(plan: tuple, hp: Hyperparameters, regions: bool) -> None:
    kwargs, patch_size = plan
    module = attached(kwargs, patch_size, hp, regions)
    output = module.train()(torch.randn(2, 2, *patch_size))
    total(output).backward()
    assert output.distillation > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@given(plan=plans(), hp=hyperparameters)
def test_in_evaluation_it_is_the_network_bit_for_bit(plan: tuple, hp: Hyperparameters) -> None:
    kwargs, patch_size = plan
    module = attached(kwargs, patch_size, hp).eval()
    x = torch.randn(1, 2, *patch_size)
    for deep_supervision in (True, False):
        module.decoder.deep_supervision = deep_supervision
        ours, alone = module(x), module.network(x)
        assert type(ours) is type(alone)
        assert all(torch.equal(a, b) for a, b in zip(ours, alone, strict=True))


@given(plan=plans(), hp=hyperparameters)
def test_in_training_it_computes_the_networks_segmentation(plan: tuple, hp: Hyperparameters) -> None:
    kwargs, patch_size = plan
    module = attached(kwargs, patch_size, hp).train()
    x = torch.randn(2, 2, *patch_size)
    alone = module.network(x)
    assert all(torch.equal(a, b) for a, b in zip(module(x).segmentation, alone, strict=True))


def test_state_dict_is_the_inference_networks() -> None:
    module = attached(PLAN, PATCH)
    network = MISSU(2, num_classes=3, **missu_arch_kwargs(PLAN, PATCH))
    network.load_state_dict(module.state_dict())
    assert module.state_dict().keys() == network.state_dict().keys()
    torch.nn.init.zeros_(network.encoder.stages[0][0].convs[0].conv.weight)
    module.load_state_dict(network.state_dict())
    assert not module.network.encoder.stages[0][0].convs[0].conv.weight.any()


def test_teachers_travel_by_their_own_state_dict() -> None:
    module, other = attached(PLAN, PATCH), attached(PLAN, PATCH)
    torch.nn.init.zeros_(module.fusion[0].head.weight)
    other.load_teacher_state_dict(module.teacher_state_dict())
    assert not other.fusion[0].head.weight.any()


def test_detached_teacher_learns_from_its_head_alone() -> None:
    module = attached(PLAN, PATCH).train()
    module(torch.randn(2, 2, *PATCH)).distillation.backward()
    assert all(p.grad is None for p in module.fusion.parameters())
    assert module.network.decoder.stages[0].convs[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("supervise_encoder", [False, True])
def test_heads_train_the_encoder_only_where_asked(supervise_encoder: bool) -> None:
    module = attached(PLAN, PATCH, Hyperparameters(supervise_encoder=supervise_encoder)).train()
    total(TrainingOutput([], module(torch.randn(2, 2, *PATCH)).auxiliary, torch.zeros(()))).backward()
    assert all(p.grad is not None for p in module.fusion.parameters())
    reached = {name.split(".")[0] for name, p in module.network.named_parameters() if p.grad is not None}
    assert reached == ({"encoder"} if supervise_encoder else set())


def test_raw_skip_teaches_without_parameters() -> None:
    module = attached(PLAN, PATCH, Hyperparameters(teacher="skip", student="features")).train()
    output = module(torch.randn(2, 2, *PATCH))
    assert output.auxiliary == []
    assert module.teacher_state_dict() == {}
    assert output.distillation > 0


def test_without_weight_nothing_is_distilled() -> None:
    output = attached(PLAN, PATCH, Hyperparameters(w_kd=0.0)).train()(torch.randn(2, 2, *PATCH))
    assert output.distillation == 0
    assert not output.distillation.requires_grad
    assert len(output.auxiliary) == 2


def test_finest_level_counts_from_full_resolution() -> None:
    heads = attached(PLAN, PATCH, Hyperparameters(finest_level=0)).train()(torch.randn(1, 2, *PATCH)).auxiliary
    assert [tuple(logits.shape[2:]) for logits in heads] == [(16, 16, 24), (8, 8, 12), (4, 4, 6)]


def test_posterior_of_a_raw_skip_is_refused() -> None:
    with pytest.raises(ValueError, match="needs teacher='fusion'"):
        attached(PLAN, PATCH, Hyperparameters(teacher="skip", student="posterior"))

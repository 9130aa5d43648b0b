import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_plans import plain_arch_kwargs, plans

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.losses import TrainingOutput, softmax_kl
from missu_nnunet.distillation.skip_distillation import SkipDistillation

PLAN, PATCH = plain_arch_kwargs([[1, 1, 1]] + [[2, 2, 2]] * 3), (16, 16, 24)


def attached(plan: dict, patch_size: tuple[int, ...], fusion: bool = True) -> SkipDistillation:
    torch.manual_seed(0)
    network = MISSU(2, num_classes=3, deep_supervision=True, **missu_arch_kwargs(plan, patch_size))
    network.apply(network.initialize)
    return SkipDistillation(network, 3, fusion)


def divergence(output: TrainingOutput) -> torch.Tensor:
    return sum(softmax_kl(teacher, student) for teacher, student in zip(output.teachers, output.students, strict=True))


def total(output: TrainingOutput) -> torch.Tensor:
    return sum(x.square().mean() for x in [*output.segmentation, *output.auxiliary]) + divergence(output)


@given(plan=plans(), fusion=st.booleans())
def test_every_plan_gives_every_parameter_a_finite_gradient(plan: tuple, fusion: bool) -> None:
    kwargs, patch_size = plan
    module = attached(kwargs, patch_size, fusion)
    output = module.train()(torch.randn(2, 2, *patch_size))
    total(output).backward()
    assert divergence(output) > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@given(plan=plans(), fusion=st.booleans())
def test_in_evaluation_it_is_the_network_bit_for_bit(plan: tuple, fusion: bool) -> None:
    kwargs, patch_size = plan
    module = attached(kwargs, patch_size, fusion).eval()
    x = torch.randn(1, 2, *patch_size)
    for deep_supervision in (True, False):
        module.decoder.deep_supervision = deep_supervision
        ours, alone = module(x), module.network(x)
        assert type(ours) is type(alone)
        assert all(torch.equal(a, b) for a, b in zip(ours, alone, strict=True))


@given(plan=plans(), fusion=st.booleans())
def test_in_training_it_computes_the_networks_segmentation(plan: tuple, fusion: bool) -> None:
    kwargs, patch_size = plan
    module = attached(kwargs, patch_size, fusion).train()
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


@pytest.mark.parametrize("fusion", [True, False])
def test_the_decoder_learns_from_the_teachers_and_they_do_not_learn_from_it(fusion: bool) -> None:
    module = attached(PLAN, PATCH, fusion).train()
    divergence(module(torch.randn(2, 2, *PATCH))).backward()
    assert all(p.grad is None for p in module.fusion.parameters())
    assert module.network.decoder.stages[0].convs[0].conv.weight.grad.abs().sum() > 0


def test_heads_train_the_fusion_blocks_and_not_the_encoder() -> None:
    module = attached(PLAN, PATCH).train()
    sum(logits.square().mean() for logits in module(torch.randn(2, 2, *PATCH)).auxiliary).backward()
    assert all(p.grad is not None for p in module.fusion.parameters())
    assert all(p.grad is None for p in module.network.parameters())


def test_every_level_has_a_teacher() -> None:
    output = attached(PLAN, PATCH).train()(torch.randn(1, 2, *PATCH))
    sizes = [(16, 16, 24), (8, 8, 12), (4, 4, 6)]
    for levels in output:
        assert [tuple(level.shape[2:]) for level in levels] == sizes


def test_raw_skip_teaches_without_parameters() -> None:
    module = attached(PLAN, PATCH, fusion=False).train()
    assert module(torch.randn(2, 2, *PATCH)).auxiliary == []
    assert not list(module.fusion.parameters())

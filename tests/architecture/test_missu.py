import pytest
import torch
from dynamic_network_architectures.architectures.abstract_arch import test_submodules_loadable as check_submodules
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given
from random_plans import plain_arch_kwargs, plans
from torch import nn

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU

STRIDES_3D = [[1, 1, 1]] + [[2, 2, 2]] * 3


def missu(plan: dict, patch_size: tuple[int, ...], **changes: object) -> MISSU:
    torch.manual_seed(0)
    network = MISSU(2, num_classes=3, **(missu_arch_kwargs(plan, patch_size) | changes))
    return network.apply(network.initialize)


@given(plans())
def test_every_plan_gives_outputs_of_every_level_and_finite_gradients(plan: tuple[dict, tuple[int, ...]]) -> None:
    kwargs, patch_size = plan
    network = missu(kwargs, patch_size, deep_supervision=True)
    outputs = network(torch.randn(2, 2, *patch_size))
    reduction = torch.ones(len(patch_size), dtype=torch.int64)
    for output, stride in zip(outputs, network.encoder.strides[:-1], strict=True):
        reduction *= torch.tensor(stride)
        assert output.shape == (2, 3, *(torch.tensor(patch_size) // reduction).tolist())
    sum(output.square().mean() for output in outputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("residual", [False, True])
def test_starts_as_the_unet_with_the_same_weights(residual: bool) -> None:
    plan = plain_arch_kwargs(STRIDES_3D, residual=residual)
    network = missu(plan, (16, 24, 16), deep_supervision=True)
    unet = (ResidualEncoderUNet if residual else PlainConvUNet)(2, num_classes=3, deep_supervision=True, **plan)
    result = unet.load_state_dict(network.state_dict(), strict=False)
    assert not result.missing_keys
    assert all(key.startswith("bottleneck.") for key in result.unexpected_keys)
    x = torch.randn(2, 2, 16, 24, 16)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(network(x), unet(x), strict=True))


def test_stages_below_the_transformer_follow_it() -> None:
    network = missu(plain_arch_kwargs(STRIDES_3D), (16, 24, 16))
    higher = missu(plain_arch_kwargs(STRIDES_3D), (16, 24, 16), stages_below_transformer=1)
    assert (network.bottleneck.channels, higher.bottleneck.channels) == (32, 16)
    nn.init.normal_(higher.bottleneck.project_out.weight)
    x = torch.randn(1, 2, 16, 24, 16)
    for ours, theirs in zip(higher.encode(x)[:2], higher.encoder(x)[:2], strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(higher.encode(x)[2:], higher.encoder(x)[2:], strict=True):
        assert not torch.equal(ours, theirs)  # its own stage, and the one below, which follows it


@pytest.mark.parametrize("patch_size", [(17, 25, 16), (9, 31, 23)])
def test_patch_that_the_strides_do_not_divide(patch_size: tuple[int, int, int]) -> None:
    network = missu(plain_arch_kwargs(STRIDES_3D), patch_size)
    assert network(torch.randn(1, 2, *patch_size)).shape == (1, 3, *patch_size)


def test_deep_supervision_changes_what_is_returned_and_nothing_else() -> None:
    network = missu(plain_arch_kwargs(STRIDES_3D), (16, 16, 16), deep_supervision=True)
    x = torch.randn(1, 2, 16, 16, 16)
    finest = network(x)[0]
    network.decoder.deep_supervision = False
    assert torch.equal(network(x), finest)


def test_without_a_transformer_the_bottleneck_is_the_identity() -> None:
    network = missu(plain_arch_kwargs(STRIDES_3D), (16, 16, 16), transformer=None)
    assert isinstance(network.bottleneck, nn.Identity)
    assert not any(key.startswith("bottleneck") for key in network.state_dict())


@pytest.mark.parametrize("residual", [False, True])
def test_names_its_parts_where_nnunet_looks_for_them(residual: bool) -> None:
    check_submodules(missu(plain_arch_kwargs(STRIDES_3D, residual=residual), (16, 16, 16)))


def test_paper_preset_runs_with_the_numbers_of_the_release() -> None:
    network = MISSU.paper(input_channels=4, num_classes=4)
    assert [stage.output_channels for stage in network.encoder.stages] == [16, 32, 64, 128]
    assert (network.bottleneck.embedding_dim, network.bottleneck.mlp_dim) == (512, 1024)
    assert len(network.bottleneck.blocks) == 4
    assert network.bottleneck.blocks[0].attention.num_heads == 8
    assert network(torch.randn(1, 4, 32, 32, 32)).shape == (1, 4, 32, 32, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_blocks_per_stage": [1, 1, 1, 1]}, "either n_conv_per_stage"),
        ({"n_conv_per_stage": None}, "either n_conv_per_stage"),
        ({"n_stages": 1}, "at least 2 stages, got n_stages=1"),
        ({"stages_below_transformer": 4}, "one of 0 to 3, got 4"),
    ],
)
def test_bad_arguments_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        missu(plain_arch_kwargs(STRIDES_3D), (16, 16, 16), **changes)

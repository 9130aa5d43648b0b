from collections.abc import Callable

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given
from random_plans import plain_arch_kwargs, plans
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import (
    missu_arch_kwargs,
    planned_arch_kwargs,
    transformer_kwargs,
    transformer_stage,
)
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError, PlanError
from missu_nnunet.planning.summary import count_macs


@given(plans())
def test_nothing_of_the_plans_network_is_taken_away(plan: tuple[dict, tuple[int, ...]]) -> None:
    kwargs, patch_size = plan
    ours = missu_arch_kwargs(kwargs, patch_size)
    stage = transformer_stage(kwargs["strides"], patch_size)
    assert ours.pop("stages_below_transformer") == kwargs["n_stages"] - 1 - stage
    transformer, widths = ours.pop("transformer"), kwargs["features_per_stage"]
    assert transformer["embedding_dim"] == 64 * transformer["num_heads"] >= max(16 * widths[0], widths[stage])
    assert transformer["mlp_dim"] == 2 * transformer["embedding_dim"]
    assert ours == kwargs


def test_a_missu_plan_stays_as_it_is() -> None:
    kwargs = missu_arch_kwargs(plain_arch_kwargs([[1, 1], [2, 2]]), (16, 16))
    assert missu_arch_kwargs(kwargs, (512, 512)) is kwargs


@pytest.mark.parametrize("channels", [1, 4, 32, 100, 256, 320, 512])
def test_a_transformer_is_as_wide_as_its_heads_need(channels: int) -> None:
    kwargs = transformer_kwargs(channels)
    assert channels <= kwargs["embedding_dim"] == 64 * kwargs["num_heads"] < channels + 64


def test_a_plan_of_one_stage_is_refused() -> None:
    with pytest.raises(InputError, match=r"the plan has a single stage for its patch \[8, 8\]"):
        missu_arch_kwargs(plain_arch_kwargs([[1, 1]]), (8, 8))


@pytest.mark.parametrize(("residual", "function"), [(True, missu_arch_kwargs), (False, planned_arch_kwargs)])
def test_a_residual_encoder_needs_a_patch_that_its_strides_divide(residual: bool, function: Callable) -> None:
    kwargs = plain_arch_kwargs([[1, 1], [2, 2], [2, 2]], residual=residual)
    assert function(kwargs, (12, 16))["n_stages"] == 3
    with pytest.raises(PlanError, match=r"patch \[12, 14\] is no multiple of its strides \[4, 4\], which a residual"):
        function(kwargs, (12, 14))


def test_a_plan_for_another_kind_of_network_is_refused() -> None:
    with pytest.raises(InputError, match="PlainConvUNet, ResidualEncoderUNet or MISSU"):
        missu_arch_kwargs({"patch_embed_size": [8, 8, 8]}, (64, 64, 64))


@given(plans())
def test_what_the_planners_choose(plan: tuple[dict, tuple[int, ...]]) -> None:
    kwargs, patch_size = plan
    ours, planned = missu_arch_kwargs(*plan), planned_arch_kwargs(*plan)
    stage = transformer_stage(kwargs["strides"], patch_size)
    blocks = planned["n_blocks_per_stage"]
    of_unet = kwargs.get("n_blocks_per_stage", [1] * kwargs["n_stages"])
    assert 1 <= blocks[stage] <= of_unet[stage]
    assert [*blocks[:stage], *blocks[stage + 1 :]] == [*of_unet[:stage], *of_unet[stage + 1 :]]
    chosen = {"n_blocks_per_stage", "n_conv_per_stage"}
    assert {key: planned[key] for key in planned.keys() - chosen} == {key: ours[key] for key in ours.keys() - chosen}
    assert "n_conv_per_stage" not in planned
    assert planned_arch_kwargs(planned, patch_size) == planned


@pytest.mark.parametrize(
    ("strides", "patch_size", "expected"),
    [
        ([[1, 1, 1]] + [[2, 2, 2]] * 5, (128, 128, 128), 4),  # 4096 tokens at 1/8
        ([[1, 1, 1]] + [[2, 2, 2]] * 4, (64, 64, 64), 3),
        ([[1, 1, 1]] + [[2, 2, 2]] * 3, (32, 32, 32), 3),
        ([[1, 1]] + [[2, 2]] * 6, (256, 256), 4),  # a token of 8² pixels costs more than it gives
        ([[1, 1]] + [[2, 2]] * 7, (512, 512), 5),  # 1024 tokens at 1/16
        ([[1, 1], [2, 2]], (512, 512), 1),  # nothing deeper to go to
    ],
)
def test_where_the_transformer_stands(strides: list[list[int]], patch_size: tuple[int, ...], expected: int) -> None:
    assert transformer_stage(strides, patch_size) == expected


@pytest.mark.parametrize("features", [16, 32])
@pytest.mark.parametrize(
    ("spacing", "patch", "limit"),
    [
        ((1, 1, 1), (32, 32, 32), 1.22),
        ((1, 1, 1), (128, 128, 128), 1.14),
        ((1, 1, 1), (192, 160, 160), 1.13),
        ((3, 1, 1), (20, 320, 256), 1.05),
        ((1, 1), (128, 128), 1.22),
        ((1, 1), (512, 512), 1.19),
    ],
)
def test_operations_beside_nnunets_networks(
    spacing: tuple[float, ...], patch: tuple[int, ...], limit: float, features: int
) -> None:
    for unet_class, residual, most in ((PlainConvUNet, False, limit), (ResidualEncoderUNet, True, 1.01)):
        unet_kwargs, patch_size = unet_plan(spacing, patch, features, residual)
        planned = planned_arch_kwargs(unet_kwargs, patch_size)
        with torch.device("meta"):
            missu = MISSU(1, num_classes=3, **planned)
            unet = unet_class(1, num_classes=3, **unet_kwargs)
        assert count_macs(missu, 1, patch_size) <= most * count_macs(unet, 1, patch_size)

import numpy as np
import pytest
from hypothesis import given
from random_plans import plain_arch_kwargs, plans

from missu_nnunet.architecture.configuration import (
    MAX_REDUCTION,
    MAX_TOKENS,
    bottleneck_stage,
    missu_arch_kwargs,
    planned_arch_kwargs,
    transformer_kwargs,
)
from missu_nnunet.errors import InputError


@pytest.mark.parametrize(
    ("strides", "patch_size", "expected"),
    [
        ([[1, 1, 1]] + [[2, 2, 2]] * 5, (128, 128, 128), 3),  # the paper's: 1/8, 4096 tokens
        ([[1, 1, 1]] + [[2, 2, 2]] * 5, (160, 160, 160), 4),  # 8000 tokens at 1/8
        ([[1, 1, 1]] + [[2, 2, 2]] * 3, (40, 56, 40), 3),
        ([[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]], (28, 128, 128), 3),  # one axis starts late
        ([[1, 1]] + [[2, 2]] * 7, (512, 512), 3),
        ([[1, 1]] + [[2, 2]] * 7, (1024, 1024), 4),
        ([[1, 1], [2, 2]], (512, 512), 1),  # nothing deeper to go to
        ([[1, 1], [16, 16], [2, 2]], (64, 64), 1),  # never the first stage
    ],
)
def test_where_the_transformer_stands(strides: list[list[int]], patch_size: tuple[int, ...], expected: int) -> None:
    assert bottleneck_stage(strides, patch_size) == expected


@given(plans())
def test_rule_holds_for_every_plan(plan: tuple[dict, tuple[int, ...]]) -> None:
    kwargs, patch_size = plan
    stage = bottleneck_stage(kwargs["strides"], patch_size)
    reductions = np.cumprod(kwargs["strides"], axis=0)
    assert 1 <= stage < len(reductions)
    within = (reductions <= MAX_REDUCTION).all(axis=1)
    if stage < len(reductions) - 1:  # deeper stages gave way: because they reduce too much
        assert not within[stage + 1]
        assert np.prod(np.array(patch_size) / reductions[stage]) <= MAX_TOKENS


def test_deeper_stages_give_way() -> None:
    kwargs = missu_arch_kwargs(plain_arch_kwargs([[1, 1, 1]] + [[2, 2, 2]] * 5), (64, 64, 64))
    assert kwargs["n_stages"] == 4
    assert kwargs["features_per_stage"] == [4, 8, 16, 32]
    assert len(kwargs["strides"]) == len(kwargs["kernel_sizes"]) == len(kwargs["n_conv_per_stage"]) == 4
    assert len(kwargs["n_conv_per_stage_decoder"]) == 3


def test_decoder_keeps_its_finest_stages() -> None:
    plan = plain_arch_kwargs([[1, 1, 1]] + [[2, 2, 2]] * 4) | {"n_conv_per_stage_decoder": [5, 4, 3, 2]}
    assert missu_arch_kwargs(plan, (64, 64, 64))["n_conv_per_stage_decoder"] == [4, 3, 2]


def test_a_missu_plan_stays_as_it_is() -> None:
    kwargs = missu_arch_kwargs(plain_arch_kwargs([[1, 1], [2, 2]]), (16, 16))
    assert missu_arch_kwargs(kwargs, (512, 512)) is kwargs


@pytest.mark.parametrize("channels", [1, 4, 32, 100, 256, 320, 512])
def test_default_transformer_fits_its_heads(channels: int) -> None:
    kwargs = transformer_kwargs(channels)
    assert kwargs["embedding_dim"] == 32 * kwargs["num_heads"] >= channels


def test_a_plan_of_one_stage_is_refused() -> None:
    with pytest.raises(InputError, match=r"patch \[8, 8\] is too small"):
        missu_arch_kwargs(plain_arch_kwargs([[1, 1]]), (8, 8))


def test_a_plan_for_another_kind_of_network_is_refused() -> None:
    with pytest.raises(InputError, match="PlainConvUNet, ResidualEncoderUNet or MISSU"):
        missu_arch_kwargs({"patch_embed_size": [8, 8, 8]}, (64, 64, 64))


@given(plans())
def test_what_the_planners_choose(plan: tuple[dict, tuple[int, ...]]) -> None:
    kwargs = missu_arch_kwargs(*plan)
    planned = planned_arch_kwargs(*plan)
    assert planned["n_blocks_per_stage"] == kwargs.get("n_blocks_per_stage", [1] * kwargs["n_stages"])
    assert "n_conv_per_stage" not in planned
    assert planned["n_conv_per_stage_decoder"] == [1] * (kwargs["n_stages"] - 1)
    *widths, bottleneck = planned["features_per_stage"]
    assert widths == kwargs["features_per_stage"][:-1]
    assert bottleneck == min(kwargs["features_per_stage"][-1], 1.5 * widths[-1])
    assert planned["transformer"] == transformer_kwargs(bottleneck)
    chosen = {"n_blocks_per_stage", "n_conv_per_stage", "n_conv_per_stage_decoder", "features_per_stage", "transformer"}
    assert planned.keys() - chosen == kwargs.keys() - chosen
    assert all(planned[key] == kwargs[key] for key in planned.keys() - chosen)
    assert planned_arch_kwargs(planned, plan[1]) == planned

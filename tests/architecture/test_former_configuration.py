import pytest
from random_plans import plain_arch_kwargs

from missu_nnunet.architecture.former_configuration import former_arch_kwargs
from missu_nnunet.errors import InputError


@pytest.mark.parametrize(
    ("strides", "patch_size", "stages"),
    [
        ([[1, 1, 1]] + [[2, 2, 2]] * 5, (128, 128, 128), 4),  # the paper's: 1/8, 4096 tokens
        ([[1, 1, 1]] + [[2, 2, 2]] * 5, (160, 160, 160), 5),  # 8000 tokens at 1/8
        ([[1, 1, 1]] + [[2, 2, 2]] * 3, (40, 56, 40), 4),
        ([[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]], (28, 128, 128), 4),  # one axis starts late
        ([[1, 1]] + [[2, 2]] * 7, (512, 512), 4),
        ([[1, 1]] + [[2, 2]] * 7, (1024, 1024), 5),
        ([[1, 1], [2, 2]], (512, 512), 2),  # nothing deeper to go to
        ([[1, 1], [16, 16], [2, 2]], (64, 64), 2),  # never the first stage
    ],
)
def test_stages_below_the_transformer_were_dropped(
    strides: list[list[int]], patch_size: tuple[int, ...], stages: int
) -> None:
    plan = plain_arch_kwargs(strides)
    plan["n_conv_per_stage_decoder"] = list(range(len(strides) - 1, 0, -1))
    kwargs = former_arch_kwargs(plan, patch_size)
    assert kwargs["n_stages"] == stages
    for key in ("features_per_stage", "strides", "kernel_sizes", "n_conv_per_stage"):
        assert kwargs[key] == plan[key][:stages]
    assert kwargs["n_conv_per_stage_decoder"] == list(range(stages - 1, 0, -1))  # its finest stages
    transformer = kwargs["transformer"]
    assert transformer["embedding_dim"] == 32 * transformer["num_heads"] >= kwargs["features_per_stage"][-1]


def test_a_plan_for_another_kind_of_network_is_refused() -> None:
    with pytest.raises(InputError, match="PlainConvUNet, ResidualEncoderUNet or MISSU"):
        former_arch_kwargs({"patch_embed_size": [8, 8, 8]}, (64, 64, 64))

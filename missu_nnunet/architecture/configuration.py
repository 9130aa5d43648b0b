"""How a plan configures MISSU: where the Transformer stands, and how large it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from missu_nnunet.errors import InputError

MAX_REDUCTION = 8
"""The Transformer works where the encoder has reduced each axis by at most this factor (the paper's 1/8)."""

MAX_TOKENS = 4096
"""The most tokens that attention runs over: the paper's 128³ patch at 1/8 resolution."""

MISSU_CLASS = "missu_nnunet.architecture.missu.MISSU"

_STAGE_KEYS = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")


def bottleneck_stage(strides: Sequence[Sequence[int]], patch_size: Sequence[int]) -> int:
    """Index of the encoder stage that becomes the bottleneck, from the plan alone.

    The rule: the deepest stage whose total reduction is at most ``MAX_REDUCTION`` on every axis; from there on deeper
    while its grid has more than ``MAX_TOKENS`` voxels and the plan has a deeper stage; never the first stage.

    Args:
        strides: stride into each stage of the plan.
        patch_size: the patch in voxels.
    """
    reductions = np.cumprod(np.array(strides), axis=0)
    stage = max(1, np.flatnonzero((reductions <= MAX_REDUCTION).all(axis=1)).max(initial=1))
    while stage < len(reductions) - 1 and np.prod(np.ceil(np.array(patch_size) / reductions[stage])) > MAX_TOKENS:
        stage += 1
    return int(stage)


def transformer_kwargs(channels: int) -> dict[str, Any]:
    """The default Transformer for a bottleneck of ``channels`` channels.

    Four layers and a feed-forward of twice the embedding are the authors' release; an embedding as wide as the
    bottleneck and heads of 32 channels are design choices.
    """
    num_heads = -(-channels // 32)
    embedding_dim = 32 * num_heads
    return {
        "embedding_dim": embedding_dim,
        "depth": 4,
        "num_heads": num_heads,
        "mlp_dim": 2 * embedding_dim,
        "dropout": 0.0,
    }


def missu_arch_kwargs(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Turn the ``arch_kwargs`` of a plan for nnU-Net's U-Nets into MISSU's.

    Stages below the bottleneck are dropped. Arguments that are MISSU's already come back unchanged.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``.
        patch_size: the plan's patch in voxels.

    Raises:
        InputError: if the plan is not one for a U-Net of nnU-Net's kind, or has a single stage.
    """
    n_stages = arch_kwargs.get("n_stages")
    if n_stages is None or ("n_conv_per_stage" in arch_kwargs) == ("n_blocks_per_stage" in arch_kwargs):
        raise InputError(
            f"the plan's architecture has the arguments {sorted(arch_kwargs)}, but MISSU follows plans for "
            "PlainConvUNet, ResidualEncoderUNet or MISSU; plan with MISSUPlanner or one of nnU-Net's own planners"
        )
    if n_stages < 2:
        raise InputError(
            f"the plan's patch {list(map(int, patch_size))} is too small for a single pooling, but MISSU needs "
            "one before its Transformer; plan with a larger patch (nnU-Net pools an axis from 8 voxels on)"
        )
    if "transformer" in arch_kwargs:
        return arch_kwargs
    kept = bottleneck_stage(arch_kwargs["strides"], patch_size) + 1
    kwargs = arch_kwargs | {key: arch_kwargs[key][:kept] for key in _STAGE_KEYS if key in arch_kwargs}
    # The decoder's list starts with its deepest stage: what goes away stands in front.
    kwargs["n_conv_per_stage_decoder"] = arch_kwargs["n_conv_per_stage_decoder"][n_stages - kept :]
    kwargs["n_stages"] = kept
    kwargs["transformer"] = transformer_kwargs(kwargs["features_per_stage"][-1])
    return kwargs


def planned_arch_kwargs(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """MISSU's arguments as its planners write them: :func:`missu_arch_kwargs`'s, changed where a planner may choose.

    A plain encoder becomes a residual one of one block per stage, as many convolutions as nnU-Net's plain stages have
    (the paper's encoder is residual); a decoder stage has one convolution instead of two, as in nnU-Net's residual
    presets; and the bottleneck, where most parameters are, is at most one and a half times as wide as the stage before
    instead of twice. Design choices by measurement, see ``docs/benchmarks.md``.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``, of a U-Net or of MISSU.
        patch_size: the plan's patch in voxels.

    Raises:
        InputError: as :func:`missu_arch_kwargs`.
    """
    kwargs = missu_arch_kwargs(arch_kwargs, patch_size)
    *widths, bottleneck = kwargs["features_per_stage"]
    bottleneck = min(bottleneck, widths[-1] * 3 // 2)
    planned = kwargs | {
        "features_per_stage": [*widths, bottleneck],
        "n_blocks_per_stage": kwargs.get("n_blocks_per_stage", [1] * kwargs["n_stages"]),
        "n_conv_per_stage_decoder": [1] * len(kwargs["n_conv_per_stage_decoder"]),
        "transformer": transformer_kwargs(bottleneck),
    }
    planned.pop("n_conv_per_stage", None)
    return planned

"""How a plan configures MISSU: where the Transformer stands, and how large it is."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from missu_nnunet.errors import InputError

MAX_REDUCTION = 8
"""The Transformer works where the encoder has reduced each axis by at most this factor (the paper's 1/8)."""

MAX_TOKENS = 4096
"""The largest number of tokens that attention runs over: that of the paper's 128³ patch at 1/8 resolution."""

PLANNED_TOKENS = 512
"""The largest number of tokens in the planners' networks."""

PLANNED_VOXELS = 256
"""Voxels of the patch that a token stands for at least in the planners' networks: 8³ in 3D, 16² in 2D."""

PAPER_WIDTH, PAPER_HEADS = 512, 8
"""Channels and heads of the Transformer in the authors' release."""

NNUNET_WIDTH = 32
"""Channels of the first stage in nnU-Net's plans, beside which the planners' Transformers have the paper's width."""

MISSU_CLASS = "missu_nnunet.architecture.missu.MISSU"

MISSU_KEYS = ("transformer", "stages_below_transformer")
"""What a plan of MISSU has among its ``arch_kwargs`` beside those of nnU-Net's U-Nets."""

_STAGE_KEYS = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")


def bottleneck_stage(strides: Sequence[Sequence[int]], patch_size: Sequence[int], max_tokens: int = MAX_TOKENS) -> int:
    """Return the index of the encoder stage that becomes the bottleneck, which depends on the plan alone.

    It is the deepest stage whose total reduction is at most ``MAX_REDUCTION`` on every axis, or a deeper one while the
    grid has more than ``MAX_TOKENS`` voxels and the plan has deeper stages; it is never the first stage.

    Args:
        strides: stride into each stage of the plan.
        patch_size: the patch in voxels.
    """
    reductions = np.cumprod(np.array(strides), axis=0)
    stage = max(1, np.flatnonzero((reductions <= MAX_REDUCTION).all(axis=1)).max(initial=1))
    while stage < len(reductions) - 1 and np.prod(np.ceil(np.array(patch_size) / reductions[stage])) > MAX_TOKENS:
        stage += 1
    return int(stage)


def planned_stage(strides: Sequence[Sequence[int]], patch_size: Sequence[int]) -> int:
    """Return the index of the encoder stage behind which the Transformer stands in the planners' networks.

    It is the first stage whose voxels stand for at least ``PLANNED_VOXELS`` of the patch and whose grid has at most
    ``PLANNED_TOKENS`` of them, or else the plan's deepest stage.

    Args:
        strides: stride into each stage of the plan.
        patch_size: the patch in voxels.
    """
    reductions = np.cumprod(np.array(strides), axis=0)
    tokens = np.ceil(np.array(patch_size) / reductions).prod(axis=1)
    fits = (reductions.prod(axis=1) >= PLANNED_VOXELS) & (tokens <= PLANNED_TOKENS)
    return int(np.flatnonzero(fits).min(initial=len(reductions) - 1))


def transformer_kwargs(channels: int, head_channels: int = 32) -> dict[str, Any]:
    """Return the arguments of a Transformer of ``channels`` channels, or a few more that its heads divide.

    Four layers, and a feed-forward network of twice the embedding, are those of the authors' release.

    Args:
        channels: channels of a token.
        head_channels: channels of an attention head. The default is a design choice for narrow bottlenecks; the release
            has 64.
    """
    num_heads = -(-channels // head_channels)
    embedding_dim = head_channels * num_heads
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
    _check_unet(arch_kwargs, patch_size)
    if "transformer" in arch_kwargs:
        return arch_kwargs
    kwargs = _with_bottleneck_at(bottleneck_stage(arch_kwargs["strides"], patch_size), arch_kwargs)
    kwargs["transformer"] = transformer_kwargs(kwargs["features_per_stage"][-1])
    return kwargs


def _check_unet(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Refuse a plan that is not for a U-Net of nnU-Net's kind or for MISSU, or that has a single stage."""
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


def _with_bottleneck_at(stage: int, arch_kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a U-Net whose stages end with ``stage``."""
    kept = stage + 1
    kwargs = arch_kwargs | {key: arch_kwargs[key][:kept] for key in _STAGE_KEYS if key in arch_kwargs}
    # The decoder's list starts with its deepest stage: what goes away stands in front.
    kwargs["n_conv_per_stage_decoder"] = arch_kwargs["n_conv_per_stage_decoder"][arch_kwargs["n_stages"] - kept :]
    kwargs["n_stages"] = kept
    return kwargs


def planned_arch_kwargs(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Return MISSU's arguments as its planners write them.

    A plain encoder becomes a residual one, as the paper's is, with one block per stage, which has as many convolutions
    as nnU-Net's plain stages. All stages, their widths and the decoder stay nnU-Net's. Behind the ``planned_stage``
    stands a Transformer of the paper's width, or of that stage's where it is larger; it replaces as many of the stage's
    residual blocks as cost the same, but leaves one. Where nnU-Net's widths begin below ``NNUNET_WIDTH``, the
    Transformer is narrower in proportion.

    This trades resolution for width: the paper's 4096 tokens of 512 channels would take more than a fifth of the
    operations of nnU-Net's network, a few hundred tokens take a hundredth with a large patch in 3D, and up to an eighth
    in 2D. The Transformer comes on top where the stage has no blocks to spare, and beside a plain network of nnU-Net's
    the residual encoder's stem, which costs up to an eighth more operations.

    These are design choices, see ``docs/benchmarks.md``.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``, of a U-Net or as this function returns it.
        patch_size: the plan's patch in voxels.

    Raises:
        InputError: if ``missu_arch_kwargs`` raises it.
    """
    _check_unet(arch_kwargs, patch_size)
    if "transformer" in arch_kwargs:
        return arch_kwargs
    stage = planned_stage(arch_kwargs["strides"], patch_size)
    first, channels = arch_kwargs["features_per_stage"][0], arch_kwargs["features_per_stage"][stage]
    width = max(PAPER_WIDTH * first // NNUNET_WIDTH, channels)
    transformer = transformer_kwargs(width, head_channels=PAPER_WIDTH // PAPER_HEADS)
    # Weights are used once per token and voxel, so they are the operations too.
    embedding = transformer["embedding_dim"]
    of_layers = transformer["depth"] * embedding * (4 * embedding + 2 * transformer["mlp_dim"])
    of_block = 2 * channels**2 * math.prod(arch_kwargs["kernel_sizes"][stage])
    blocks = list(arch_kwargs.get("n_blocks_per_stage", [1] * arch_kwargs["n_stages"]))
    blocks[stage] = max(1, blocks[stage] - math.ceil(of_layers / of_block))
    planned = arch_kwargs | {
        "n_blocks_per_stage": blocks,
        "transformer": transformer,
        "stages_below_transformer": len(blocks) - 1 - stage,
    }
    planned.pop("n_conv_per_stage", None)
    return planned

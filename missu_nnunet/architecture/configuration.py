"""How a plan configures MISSU: where the Transformer stands, and how large it is."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from missu_nnunet.errors import PlanError

MAX_TOKENS = 512
"""The largest number of tokens that attention runs over, where the plan has stages with so few."""

MIN_TOKEN_VOXELS = 256
"""Voxels of the patch that a token stands for at least: 8³ in 3D, 16² in 2D."""

PAPER_WIDTH, PAPER_HEADS = 512, 8
"""Channels and heads of the Transformer in the authors' release."""

NNUNET_WIDTH = 32
"""Channels of the first stage in nnU-Net's plans, beside which the Transformer has the paper's width."""

MISSU_CLASS = "missu_nnunet.architecture.missu.MISSU"

MISSU_KEYS = ("transformer", "stages_below_transformer")
"""What a plan of MISSU has among its ``arch_kwargs`` beside those of nnU-Net's U-Nets."""


def transformer_stage(strides: Sequence[Sequence[int]], patch_size: Sequence[int]) -> int:
    """Return the index of the encoder stage behind which the Transformer stands, which depends on the plan alone.

    It is the first stage whose voxels stand for at least ``MIN_TOKEN_VOXELS`` of the patch and whose grid has at most
    ``MAX_TOKENS`` of them, or else the plan's deepest stage.

    Args:
        strides: stride into each stage of the plan.
        patch_size: the patch in voxels.
    """
    reductions = np.cumprod(np.array(strides), axis=0)
    tokens = np.ceil(np.array(patch_size) / reductions).prod(axis=1)
    fits = (reductions.prod(axis=1) >= MIN_TOKEN_VOXELS) & (tokens <= MAX_TOKENS)
    return int(np.flatnonzero(fits).min(initial=len(reductions) - 1))


def transformer_kwargs(channels: int, head_channels: int = PAPER_WIDTH // PAPER_HEADS) -> dict[str, Any]:
    """Return the arguments of a Transformer of ``channels`` channels, or a few more that its heads divide.

    Four layers, and a feed-forward network of twice the embedding, are those of the authors' release.

    Args:
        channels: channels of a token.
        head_channels: channels of an attention head; the default is the release's.
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
    """Add MISSU's Transformer to the ``arch_kwargs`` of a plan for nnU-Net's U-Nets, of which nothing is taken away.

    It stands behind the ``transformer_stage`` and has the paper's width, or that of the stage where it is larger. Where
    nnU-Net's widths begin below ``NNUNET_WIDTH``, the Transformer is narrower in proportion. Arguments that are MISSU's
    already come back unchanged.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``.
        patch_size: the plan's patch in voxels.

    Raises:
        PlanError: if the plan is not one for a U-Net of nnU-Net's kind, or has a single stage.
    """
    check_unet(arch_kwargs, patch_size)
    if "transformer" in arch_kwargs:
        return arch_kwargs
    stage = transformer_stage(arch_kwargs["strides"], patch_size)
    first, channels = arch_kwargs["features_per_stage"][0], arch_kwargs["features_per_stage"][stage]
    return arch_kwargs | {
        "transformer": transformer_kwargs(max(PAPER_WIDTH * first // NNUNET_WIDTH, channels)),
        "stages_below_transformer": arch_kwargs["n_stages"] - 1 - stage,
    }


def planned_arch_kwargs(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Return MISSU's arguments as its planners write them: with a residual encoder, which pays for the Transformer.

    A plain encoder becomes a residual one, as the paper's is, with one block per stage, which has as many convolutions
    as nnU-Net's plain stages. The Transformer of ``missu_arch_kwargs`` replaces as many residual blocks of its stage as
    cost the same, but leaves one. All stages, their widths and the decoder stay nnU-Net's.

    This trades resolution for width: the paper's 4096 tokens of 512 channels would take more than a fifth of the
    operations of nnU-Net's network, a few hundred tokens take a hundredth with a large patch in 3D, and up to an eighth
    in 2D. The Transformer comes on top where the stage has no blocks to spare, and beside a plain network of nnU-Net's
    the residual encoder's stem, which costs up to an eighth more operations.

    These are design choices, see ``docs/benchmarks.md``.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``, of a U-Net or as this function returns it.
        patch_size: the plan's patch in voxels.

    Raises:
        PlanError: if ``missu_arch_kwargs`` raises it.
    """
    kwargs = missu_arch_kwargs(arch_kwargs, patch_size)
    if "transformer" in arch_kwargs:
        return kwargs
    transformer, stage = kwargs["transformer"], kwargs["n_stages"] - 1 - kwargs["stages_below_transformer"]
    # Weights are used once per token and voxel, so they are the operations too.
    embedding, channels = transformer["embedding_dim"], kwargs["features_per_stage"][stage]
    of_layers = transformer["depth"] * embedding * (4 * embedding + 2 * transformer["mlp_dim"])
    of_block = 2 * channels**2 * math.prod(kwargs["kernel_sizes"][stage])
    blocks = list(kwargs.pop("n_blocks_per_stage", [1] * kwargs["n_stages"]))
    blocks[stage] = max(1, blocks[stage] - math.ceil(of_layers / of_block))
    kwargs.pop("n_conv_per_stage", None)
    kwargs |= {"n_blocks_per_stage": blocks}
    _check_divisible(kwargs, patch_size)
    return kwargs


def check_unet(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Make sure that a plan is for a U-Net of nnU-Net's kind or for MISSU, and has several stages.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``.
        patch_size: the plan's patch in voxels, for the message.

    Raises:
        PlanError: if it is not.
    """
    n_stages = arch_kwargs.get("n_stages")
    if n_stages is None or ("n_conv_per_stage" in arch_kwargs) == ("n_blocks_per_stage" in arch_kwargs):
        raise PlanError(
            f"the plan's architecture has the arguments {sorted(arch_kwargs)}, but MISSU follows plans for "
            "PlainConvUNet, ResidualEncoderUNet or MISSU; plan with MISSUPlanner or one of nnU-Net's own planners"
        )
    if n_stages < 2:
        raise PlanError(
            f"the plan has a single stage for its patch {list(map(int, patch_size))}, but MISSU needs a pooling before "
            "its Transformer; plan with a larger patch (nnU-Net pools an axis from 8 voxels on)"
        )
    _check_divisible(arch_kwargs, patch_size)


def _check_divisible(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> None:
    """Refuse patches on which a residual encoder cannot run: it rounds odd sizes down and up in parallel."""
    strides = np.prod(np.broadcast_to(arch_kwargs["strides"], (arch_kwargs["n_stages"], len(patch_size))), axis=0)
    if "n_blocks_per_stage" in arch_kwargs and np.any(np.array(patch_size) % strides):
        raise PlanError(
            f"the plan's patch {list(map(int, patch_size))} is no multiple of its strides {strides.tolist()}, which a "
            "residual encoder needs; give it one that is, or plan the dataset again"
        )

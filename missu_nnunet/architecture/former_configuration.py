"""MISSU on plans of nnU-Net's planners as it once was, so that models trained then can still be used.

Their ``plans.json`` names nnU-Net's network, where that of a model trained since names MISSU's and all its arguments.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from missu_nnunet.architecture.configuration import check_unet, transformer_kwargs

_MAX_REDUCTION, _MAX_TOKENS, _HEAD_CHANNELS = 8, 4096, 32

_STAGE_KEYS = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")


def former_arch_kwargs(arch_kwargs: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Return MISSU's arguments on a plan for nnU-Net's U-Nets, whose stages below the Transformer were dropped.

    The Transformer stood behind the deepest stage that has reduced every axis by at most 8, or a deeper one while there
    were more than 4096 tokens, and was as wide as its stage.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``.
        patch_size: the plan's patch in voxels.

    Raises:
        InputError: if the plan is not one for a U-Net of nnU-Net's kind, or has a single stage.
    """
    check_unet(arch_kwargs, patch_size)
    reductions = np.cumprod(np.array(arch_kwargs["strides"]), axis=0)
    stage = max(1, np.flatnonzero((reductions <= _MAX_REDUCTION).all(axis=1)).max(initial=1))
    while stage < len(reductions) - 1 and np.prod(np.ceil(np.array(patch_size) / reductions[stage])) > _MAX_TOKENS:
        stage += 1
    kept = int(stage) + 1
    kwargs = arch_kwargs | {key: arch_kwargs[key][:kept] for key in _STAGE_KEYS if key in arch_kwargs}
    # The decoder's list starts with its deepest stage: what goes away stands in front.
    kwargs["n_conv_per_stage_decoder"] = arch_kwargs["n_conv_per_stage_decoder"][arch_kwargs["n_stages"] - kept :]
    kwargs["n_stages"] = kept
    kwargs["transformer"] = transformer_kwargs(kwargs["features_per_stage"][-1], _HEAD_CHANNELS)
    return kwargs

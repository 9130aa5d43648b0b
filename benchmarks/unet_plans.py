"""Plans of nnU-Net's topology for any patch, without a dataset."""

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from torch import nn


def unet_plan(
    spacing: tuple[float, ...], patch: tuple[int, ...], features: int, residual: bool = False
) -> tuple[dict[str, Any], list[int]]:
    """``(arch_kwargs, patch_size)`` as nnU-Net plans them.

    Args:
        spacing: in mm; decides which axes are pooled together.
        patch: in voxels; may come back larger, so that the strides divide it.
        features: channels of the first stage.
        residual: residual encoder, as of the ResEnc presets.
    """
    _, strides, kernels, patch_size, _ = get_pool_and_conv_props(spacing, patch, 4, 999999)
    n_stages, dim = len(strides), len(patch)
    blocks = [1, 3, 4, 6, 6, 6, 6, 6][:n_stages] if residual else [2] * n_stages
    kwargs = {
        "n_stages": n_stages,
        "features_per_stage": [min(320 if dim == 3 else 512, features * 2**stage) for stage in range(n_stages)],
        "conv_op": nn.Conv3d if dim == 3 else nn.Conv2d,
        "kernel_sizes": kernels,
        "strides": strides,
        "n_blocks_per_stage" if residual else "n_conv_per_stage": blocks,
        "n_conv_per_stage_decoder": [1 if residual else 2] * (n_stages - 1),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d if dim == 3 else nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    return kwargs, [int(size) for size in patch_size]

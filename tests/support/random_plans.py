"""Random architectures as nnU-Net itself plans them, for property-based tests."""

from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from torch import nn

MAX_VOXELS = 16**3


def plain_arch_kwargs(
    strides: list[list[int]],
    kernel_sizes: list[list[int]] | None = None,
    base_features: int = 4,
    residual: bool = False,
) -> dict[str, Any]:
    """``arch_kwargs`` of a plan for nnU-Net's PlainConvUNet or ResidualEncoderUNet, classes already imported."""
    n_stages, dim = len(strides), len(strides[0])
    return {
        "n_stages": n_stages,
        "features_per_stage": [min(32, base_features * 2**stage) for stage in range(n_stages)],
        "conv_op": nn.Conv3d if dim == 3 else nn.Conv2d,
        "kernel_sizes": kernel_sizes or [[3] * dim] * n_stages,
        "strides": strides,
        "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 2, 2, 2, 1, 1, 1, 1][:n_stages],
        "n_conv_per_stage_decoder": [1] * (n_stages - 1),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d if dim == 3 else nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


@st.composite
def plans(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, ...]]:
    """``(arch_kwargs, patch_size)``: 2D and 3D, isotropic and not, 2 to 8 stages, plain and residual encoders."""
    dim = draw(st.sampled_from([2, 3]))
    spacing = [draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in range(dim)]
    sizes = [draw(st.integers(8, 24)) for _ in range(dim)]
    # One long axis gives the deep networks; the others shrink to keep the test small.
    sizes[draw(st.integers(0, dim - 1))] = draw(st.sampled_from([16, 40, 64, 512 if dim == 2 else 64]))
    _, strides, kernel_sizes, patch_size, _ = get_pool_and_conv_props(spacing, sizes, 4, 999999)
    while np.prod(patch_size) > MAX_VOXELS:
        axis = int(np.argmin([size if size > 8 else 10**9 for size in sizes]))
        sizes[axis] = 8
        _, strides, kernel_sizes, patch_size, _ = get_pool_and_conv_props(spacing, sizes, 4, 999999)
    assume(len(strides) > 1)  # nnU-Net does not pool a short axis of coarse spacing
    kwargs = plain_arch_kwargs(
        [list(map(int, stride)) for stride in strides],
        [list(map(int, kernel)) for kernel in kernel_sizes],
        residual=draw(st.booleans()),
    )
    return kwargs, tuple(int(size) for size in patch_size)

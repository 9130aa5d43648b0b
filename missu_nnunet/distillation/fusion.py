"""The local multi-scale fusion block, which reads a skip connection during training.

Source: the abstract of arXiv:2206.00902 names the block and what it is for; its inside is a design choice, as is the
auxiliary head: without a loss of its own a detached teacher would never learn.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

REDUCTION = 4
"""The parallel branches work on this fraction of the skip's channels: they must not cost what the network costs."""


class LocalMultiScaleFusion(nn.Module):
    """Looks at a skip feature at several local scales, and predicts a segmentation from what it saw.

    Channel reduction, parallel dilated convolutions, normalisation, fusion by a 1³ convolution, residual; an auxiliary
    segmentation head on top. No dilation along an axis whose kernel is 1. The normalisation stands where there are
    fewer channels than in the skip, and so does what the backward pass keeps of it.

    Args:
        channels: channels of the skip feature.
        num_classes: channels of the auxiliary logits.
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``.
        norm_op: class of the normalisation, called with the number of channels.
        kernel_size: the plan's kernel at this level.
        dilations: one branch each.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        conv_op: Callable[..., nn.Module],
        norm_op: Callable[..., nn.Module],
        kernel_size: Sequence[int],
        dilations: Sequence[int],
    ) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.kept_channels = hidden * (1 + 2 * len(dilations)) + channels
        self.reduce = conv_op(channels, hidden, 1)
        self.branches = nn.ModuleList()
        for dilation in dilations:
            dilation_per_axis = [dilation if size > 1 else 1 for size in kernel_size]
            padding = [d * (size // 2) for d, size in zip(dilation_per_axis, kernel_size, strict=True)]
            self.branches.append(conv_op(hidden, hidden, kernel_size, padding=padding, dilation=dilation_per_axis))
        self.norm = norm_op(hidden * len(dilations), affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True)
        self.fuse = conv_op(hidden * len(dilations), channels, 1)
        self.head = conv_op(channels, num_classes, 1)

    def forward(self, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Skip ``(B, C, D, H, W)`` → fused feature of the same shape, and logits ``(B, classes, D, H, W)``."""
        reduced = self.reduce(skip)
        scales = torch.cat([branch(reduced) for branch in self.branches], dim=1)
        fused = skip + self.fuse(self.nonlin(self.norm(scales)))
        return fused, self.head(fused)

    def compute_conv_feature_map_size(self, size: Sequence[int]) -> np.int64:
        """Size of what the backward pass keeps, in the unit of nnU-Net's memory estimates (half of what is kept).

        Kept are the reduced skip, the inputs of the normalisation and of the 1³ convolution behind it, and the head's.

        Args:
            size: voxels per axis at this level.
        """
        return np.prod(size, dtype=np.int64) * self.kept_channels // 2

"""The local multi-scale fusion block, which reads a skip connection during training.

Source: the abstract of arXiv:2206.00902 names the block and what it is for. What it computes follows the only
multi-scale block on the skips that the authors ever published, in the history of their code release: dense atrous
convolution and multi-kernel pooling, both from CE-Net (Gu et al., IEEE TMI 38(10), 2019), there in 2D. That the two are
one block, in this order and in 3D, is inferred. The 1³ convolution that brings the result back to the skip's channels,
and the auxiliary head, are design choices: without a loss of its own a detached teacher would never learn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DILATIONS = (1, 3, 5)
"""The dilated convolutions, which follow each other in the densest path."""

POOLING_KERNELS = (2, 3, 5, 6)
"""Kernel and stride of the poolings; each adds one channel."""


class LocalMultiScaleFusion(nn.Module):
    """Looks at a skip feature at several local scales, and predicts a segmentation from what it saw.

    Dense atrous convolution, ``x + r(d₁x) + r(c d₃x) + r(c d₃ d₁x) + r(c d₅ d₃ d₁x)`` with r ReLU, dᵢ a convolution of
    dilation i and c a 1³ convolution, shared by all paths; then multi-kernel pooling, whose channels are concatenated.
    There is neither dilation nor pooling along an axis whose kernel is 1, nor pooling wider than the grid.

    Args:
        channels: channels of the skip feature.
        num_classes: channels of the auxiliary logits.
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``.
        kernel_size: the plan's kernel at this level.
    """

    def __init__(
        self, channels: int, num_classes: int, conv_op: Callable[..., nn.Module], kernel_size: Sequence[int]
    ) -> None:
        super().__init__()
        self.wide = [size > 1 for size in kernel_size]
        self.atrous = nn.ModuleList()
        for dilation in DILATIONS:
            dilations = [dilation if wide else 1 for wide in self.wide]
            padding = [d * (size // 2) for d, size in zip(dilations, kernel_size, strict=True)]
            self.atrous.append(conv_op(channels, channels, kernel_size, padding=padding, dilation=dilations))
        self.mix = conv_op(channels, channels, 1)
        self.pooled = conv_op(channels, 1, 1)
        self.fuse = conv_op(channels + len(POOLING_KERNELS), channels, 1)
        self.head = conv_op(channels, num_classes, 1)

    def forward(self, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Skip ``(B, C, D, H, W)`` → fused feature of the same shape, and logits ``(B, classes, D, H, W)``."""
        fused = self.fuse(self._multi_kernel_pooling(self._dense_atrous_convolution(skip)))
        return fused, self.head(fused)

    def _dense_atrous_convolution(self, x: Tensor) -> Tensor:
        first, second, third = self.atrous
        near = first(x)
        middle = second(near)
        paths = (near, self.mix(second(x)), self.mix(middle), self.mix(third(middle)))
        return x + sum(path.relu() for path in paths)

    def _multi_kernel_pooling(self, x: Tensor) -> Tensor:
        pool, mode = (F.max_pool2d, "bilinear") if x.ndim == 4 else (F.max_pool3d, "trilinear")
        scales = [x]
        for kernel in POOLING_KERNELS:
            size = [min(kernel, extent) if wide else 1 for wide, extent in zip(self.wide, x.shape[2:], strict=True)]
            scales.append(F.interpolate(self.pooled(pool(x, size)), size=x.shape[2:], mode=mode, align_corners=False))
        return torch.cat(scales, dim=1)

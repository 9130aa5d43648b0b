import pytest
import torch
from torch import nn
from torch.nn import functional as F

from missu_nnunet.distillation.fusion import LocalMultiScaleFusion


def fusion(kernel_size: tuple[int, ...]) -> LocalMultiScaleFusion:
    torch.manual_seed(0)
    return LocalMultiScaleFusion(8, 3, nn.Conv3d if len(kernel_size) == 3 else nn.Conv2d, kernel_size)


@pytest.mark.parametrize(
    ("kernel_size", "size"),
    [((3, 3, 3), (6, 5, 7)), ((1, 3, 3), (1, 5, 7)), ((3, 3), (5, 7)), ((3, 3, 3), (1, 2, 1))],
)
def test_keeps_the_shape_of_the_skip(kernel_size: tuple, size: tuple) -> None:
    fused, logits = fusion(kernel_size)(torch.randn(2, 8, *size))
    assert fused.shape == (2, 8, *size)
    assert logits.shape == (2, 3, *size)


def test_dense_atrous_convolution_is_the_sum_of_its_paths() -> None:
    block, x = fusion((3, 3)), torch.randn(1, 8, 12, 12)

    def d(dilation: int, feature: torch.Tensor) -> torch.Tensor:
        convolution = block.atrous[(1, 3, 5).index(dilation)]
        return F.conv2d(feature, convolution.weight, convolution.bias, padding=dilation, dilation=dilation)

    c, r = block.mix, torch.relu
    expected = x + r(d(1, x)) + r(c(d(3, x))) + r(c(d(3, d(1, x)))) + r(c(d(5, d(3, d(1, x)))))
    torch.testing.assert_close(block._dense_atrous_convolution(x), expected)


def test_multi_kernel_pooling_adds_a_channel_of_each_kernel() -> None:
    block, x = fusion((3, 3)), torch.randn(1, 8, 12, 12)
    pooled = block._multi_kernel_pooling(x)
    assert pooled.shape == (1, 12, 12, 12)
    assert torch.equal(pooled[:, :8], x)
    weight, bias = block.pooled.weight.reshape(1, 8, 1, 1), block.pooled.bias
    for channel, kernel in zip(pooled[:, 8:].unbind(1), (2, 3, 5, 6), strict=True):
        coarse = (F.max_pool2d(x, kernel) * weight).sum(dim=1, keepdim=True) + bias
        torch.testing.assert_close(channel, F.interpolate(coarse, (12, 12), mode="bilinear")[:, 0])


@pytest.mark.parametrize("kernel_size", [(3, 3, 3), (1, 3, 3)])
def test_sees_nothing_along_an_axis_whose_kernel_is_one(kernel_size: tuple) -> None:
    skip = torch.randn(1, 8, 25, 25, 25, requires_grad=True)
    fusion(kernel_size)(skip)[0][0, :, 12, 12, 12].sum().backward()
    seen = skip.grad.abs().sum(dim=(0, 1)).nonzero()
    reach = (seen - 12).abs().max(dim=0).values
    assert all((extent >= 9) == (size > 1) for extent, size in zip(reach.tolist(), kernel_size, strict=True))
    assert all(extent == 0 for extent, size in zip(reach.tolist(), kernel_size, strict=True) if size == 1)


def test_skip_is_kept_as_it_is() -> None:
    skip = torch.randn(1, 8, 4, 4, 4)
    before = skip.clone()
    fusion((3, 3, 3))(skip)
    assert torch.equal(skip, before)

import pytest
import torch
from torch import nn

from missu_nnunet.distillation.fusion import LocalMultiScaleFusion


def fusion(kernel_size: tuple[int, ...], norm_op: type[nn.Module], dilations: tuple[int, ...] = (1, 2, 3)) -> nn.Module:
    torch.manual_seed(0)
    conv_op = nn.Conv3d if len(kernel_size) == 3 else nn.Conv2d
    return LocalMultiScaleFusion(8, 3, conv_op, norm_op, kernel_size, dilations)


class NoNorm(nn.Identity):
    """In place of instance normalisation, which mixes all voxels."""


@pytest.mark.parametrize(
    ("kernel_size", "norm_op", "size"),
    [
        ((3, 3, 3), nn.InstanceNorm3d, (6, 5, 7)),
        ((1, 3, 3), nn.InstanceNorm3d, (1, 5, 7)),
        ((3, 3), nn.BatchNorm2d, (5, 7)),
    ],
)
def test_keeps_the_shape_of_the_skip(kernel_size: tuple, norm_op: type[nn.Module], size: tuple) -> None:
    fused, logits = fusion(kernel_size, norm_op)(torch.randn(2, 8, *size))
    assert fused.shape == (2, 8, *size)
    assert logits.shape == (2, 3, *size)


@pytest.mark.parametrize(("dilations", "reach"), [((1,), 1), ((1, 2), 2), ((1, 2, 3), 3)])
@pytest.mark.parametrize("kernel_size", [(3, 3, 3), (1, 3, 3)])
def test_sees_as_far_as_its_largest_dilation(dilations: tuple, reach: int, kernel_size: tuple) -> None:
    block = fusion(kernel_size, NoNorm, dilations)
    skip = torch.randn(1, 8, 11, 11, 11, requires_grad=True)
    block(skip)[0][0, :, 5, 5, 5].sum().backward()
    seen = skip.grad.abs().sum(dim=(0, 1)).nonzero()
    expected = [reach if size > 1 else 0 for size in kernel_size]
    assert (seen - 5).abs().max(dim=0).values.tolist() == expected


def test_skip_is_kept_as_it_is() -> None:
    skip = torch.randn(1, 8, 4, 4, 4)
    before = skip.clone()
    fusion((3, 3, 3), nn.InstanceNorm3d)(skip)
    assert torch.equal(skip, before)

"""MISSU as a plain PyTorch network, trained in a loop of one's own: no nnU-Net folders, plans or commands.

``python examples/own_training_loop.py`` teaches a small MISSU to find bright balls in noise, on a CPU.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from missu_nnunet.architecture.configuration import transformer_kwargs
from missu_nnunet.architecture.missu import MISSU


def network(input_channels: int, num_classes: int) -> MISSU:
    """MISSU with three stages: two halvings of the grid, and the Transformer on what is left of it."""
    features = [8, 16, 32]
    return MISSU(
        input_channels=input_channels,
        num_classes=num_classes,
        n_stages=3,
        features_per_stage=features,
        conv_op=nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * 3,
        strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        n_blocks_per_stage=[1, 1, 1],  # a residual encoder; n_conv_per_stage would make it a plain one
        n_conv_per_stage_decoder=[1, 1],
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        transformer=transformer_kwargs(features[-1]),
    )


def batch(size: int, grid: int = 24) -> tuple[Tensor, Tensor]:
    """Images ``(B, 1, D, H, W)`` of one ball each, and their labels ``(B, D, H, W)``."""
    axes = torch.meshgrid(*[torch.arange(grid)] * 3, indexing="ij")
    centres = torch.randint(8, grid - 8, (size, 3))
    radii = torch.randint(4, 8, (size, 1, 1, 1))
    squares = sum((axis - centres[:, i].view(-1, 1, 1, 1)) ** 2 for i, axis in enumerate(axes))
    labels = (squares <= radii**2).long()
    return labels[:, None] + torch.randn(size, 1, grid, grid, grid), labels


def dice(logits: Tensor, labels: Tensor) -> float:
    """Dice of the predicted ball, 0 to 1."""
    predicted = logits.argmax(dim=1) == 1
    return float(2 * (predicted & (labels == 1)).sum() / (predicted.sum() + (labels == 1).sum()))


def train(steps: int) -> float:
    """Train for so many steps, and return the Dice on images that were not trained on."""
    torch.manual_seed(0)
    model = network(input_channels=1, num_classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        images, labels = batch(2)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        images, labels = batch(4)
        return dice(model(images), labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    print(f"Dice on new images: {train(parser.parse_args().steps):.3f}")

"""The Transformer behind a deep encoder stage of MISSU.

MISSU (arXiv:2206.00902) runs a Transformer on the down-sampled feature map, one token per voxel. The sizes come from
the authors' code release. Design choices of this project: rotary position encoding instead of a learned table, so that
the weights fit any grid; normalised queries and keys, so that attention logits stay bounded under fp16; and a
zero-initialised output, so that training starts from the plain U-Net.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROTARY_BASE = 100.0
"""Ratio of the longest to the shortest rotary wavelength; grids have tens of tokens per axis, not thousands."""


def rotary_angles(grid: Sequence[int], head_dim: int, device: torch.device) -> Tensor:
    """Compute the rotation angle of every token and channel pair from the token's position along each axis.

    The pairs of a head are divided among the axes as evenly as possible.

    Args:
        grid: tokens per axis, e.g. ``(D, H, W)``.
        head_dim: channels of one attention head; even, at least two per axis.
        device: the device on which the angles are needed.

    Returns:
        ``(tokens, head_dim // 2)``, float32, tokens in row-major order of the grid.
    """
    pairs, dim = head_dim // 2, len(grid)
    angles = []
    for axis, size in enumerate(grid):
        axis_pairs = pairs // dim + (axis < pairs % dim)
        frequencies = ROTARY_BASE ** (-torch.arange(axis_pairs, device=device) / axis_pairs)
        axis_angles = torch.arange(size, device=device)[:, None] * frequencies
        shape = [1] * dim + [axis_pairs]
        shape[axis] = size
        angles.append(axis_angles.view(shape).expand(*grid, axis_pairs))
    return torch.cat(angles, dim=-1).reshape(-1, pairs)


def grid_rotations(grid: Sequence[int], head_dim: int, device: torch.device) -> Tensor:
    """Return the cosines and sines of ``rotary_angles``, ``(2, tokens, head_dim // 2)``, computed once per grid."""
    if torch.compiler.is_compiling():  # the compiler folds them into its graph, and a cache would hold its stand-ins
        return _grid_rotations(grid, head_dim, device)
    return _cached_grid_rotations(tuple(grid), head_dim, device, torch.is_inference_mode_enabled())


def _grid_rotations(grid: Sequence[int], head_dim: int, device: torch.device) -> Tensor:
    angles = rotary_angles(grid, head_dim, device)
    return torch.stack((angles.cos(), angles.sin()))


@lru_cache(maxsize=8)
def _cached_grid_rotations(grid: tuple[int, ...], head_dim: int, device: torch.device, inference_mode: bool) -> Tensor:
    """Tensors that inference mode has made do not serve a training: each mode has its own."""
    return _grid_rotations(grid, head_dim, device)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate the channel pairs of ``x`` ``(B, heads, tokens, head_dim)`` by ``grid_rotations``."""
    cos, sin = rotations.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and normalised queries and keys.

    Args:
        embedding_dim: channels of a token.
        num_heads: attention heads; must divide ``embedding_dim``.
    """

    def __init__(self, embedding_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = embedding_dim // num_heads
        self.qkv = nn.Linear(embedding_dim, 3 * embedding_dim)
        self.norm_q = nn.LayerNorm(head_dim)
        self.norm_k = nn.LayerNorm(head_dim)
        self.out = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        """``x`` ``(B, tokens, embedding_dim)`` → the same shape."""
        batch, tokens, channels = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        # LayerNorm leaves autocast in float32; the fused attention kernels want one dtype.
        q = rotate(self.norm_q(q).to(v.dtype), rotations)
        k = rotate(self.norm_k(k).to(v.dtype), rotations)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(batch, tokens, channels))


class TransformerBlock(nn.Module):
    """Pre-norm Transformer layer: attention and a GELU feed-forward network, each with a residual connection.

    Args:
        embedding_dim: channels of a token.
        num_heads: attention heads.
        mlp_dim: hidden channels of the feed-forward network.
        dropout: probability of dropping a channel of either branch's output.
    """

    def __init__(self, embedding_dim: int, num_heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(embedding_dim)
        self.attention = Attention(embedding_dim, num_heads)
        self.norm_mlp = nn.LayerNorm(embedding_dim)
        self.mlp = nn.Sequential(nn.Linear(embedding_dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, embedding_dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        """``x`` ``(B, tokens, embedding_dim)`` → the same shape."""
        x = x + self.dropout(self.attention(self.norm_attention(x), rotations))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


class TransformerBottleneck(nn.Module):
    """Global context for a deep feature map: ``x + out(transformer(in(x)))``, one token per voxel.

    Serves any grid in 2D and 3D. Starts as the identity: the last projection is zero.

    Args:
        channels: channels of the feature map.
        dim: spatial dimensions, 2 or 3.
        embedding_dim: channels of a token.
        depth: number of Transformer layers.
        num_heads: attention heads.
        mlp_dim: hidden channels of the feed-forward networks.
        dropout: dropout probability in the layers.

    Raises:
        ValueError: if the heads do not divide the embedding, or leave a head too few channels for the axes.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        embedding_dim: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        head_dim, remainder = divmod(embedding_dim, num_heads)
        if remainder or head_dim % 2 or head_dim < 2 * dim:
            raise ValueError(
                f"embedding_dim / num_heads must be an even number of at least {2 * dim} for {dim} spatial axes, "
                f"got {embedding_dim} / {num_heads}"
            )
        self.channels = channels
        self.embedding_dim = embedding_dim
        self.mlp_dim = mlp_dim
        self.head_dim = head_dim
        self.norm_in = nn.LayerNorm(channels)
        self.project_in = nn.Linear(channels, embedding_dim)
        self.blocks = nn.ModuleList(TransformerBlock(embedding_dim, num_heads, mlp_dim, dropout) for _ in range(depth))
        self.norm_out = nn.LayerNorm(embedding_dim)
        self.project_out = nn.Linear(embedding_dim, channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # Keeps the scale of a token at any width; the usual 0.02 does so for 2500 channels.
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.project_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``(B, C, H, W)`` or ``(B, C, D, H, W)`` → the same shape."""
        tokens = self.project_in(self.norm_in(x.flatten(2).transpose(1, 2)))
        rotations = grid_rotations(x.shape[2:], self.head_dim, x.device)
        for block in self.blocks:
            tokens = block(tokens, rotations)
        update = self.project_out(self.norm_out(tokens))
        return x + update.transpose(1, 2).reshape(x.shape)

    def compute_conv_feature_map_size(self, grid: Sequence[int]) -> np.int64:
        """Estimate the size of what the backward pass keeps, in the unit of nnU-Net's memory estimates.

        nnU-Net counts the output of a convolution block once, and the block keeps two tensors of that size (the inputs
        of the normalisation and of the next convolution), so that a tensor kept here counts one half. A layer keeps,
        for each token, the inputs of both normalisations, of the four linear maps and of the activation, the rotated
        queries and keys, the values with their fused projection, and the attention's output.

        Args:
            grid: tokens per axis.
        """
        per_layer = 11 * self.embedding_dim + 2 * self.mlp_dim
        per_token = self.channels + 2 * self.embedding_dim + len(self.blocks) * per_layer
        return np.prod(grid, dtype=np.int64) * per_token // 2

"""The memory of a training: estimated from the architecture, and counted on the real backward pass.

nnU-Net estimates a network's memory in feature-map elements (``compute_conv_feature_map_size``). Each stands for two
tensor elements that the backward pass keeps: the input of a normalisation and that of the convolution behind it.
``benchmarks/memory.py`` compares this with what autograd really keeps.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

KEPT_PER_ELEMENT = 2
"""Tensor elements kept for the backward pass per element of ``compute_conv_feature_map_size``."""

STATE_BYTES_PER_PARAMETER = 16
"""A weight, its gradient and AdamW's two moments, in float32."""


class _Estimable(Protocol):
    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


def estimate_activation_bytes(
    network: _Estimable, patch_size: Sequence[int], batch_size: int, bytes_per_element: int
) -> int:
    """Estimate the bytes that autograd keeps for the backward pass of one training step.

    Args:
        network: MISSU, or a U-Net of nnU-Net's.
        patch_size: patch size in voxels.
        batch_size: patches per step.
        bytes_per_element: 2 under AMP, 4 without.
    """
    elements = int(network.compute_conv_feature_map_size(patch_size))
    return elements * KEPT_PER_ELEMENT * batch_size * bytes_per_element


def estimate_training_bytes(
    network: _Estimable, patch_size: Sequence[int], batch_size: int, bytes_per_element: int
) -> int:
    """Estimate the bytes of activations, weights, gradients and optimiser state of one training step.

    The work space of kernels and the loss are not counted.

    Args:
        network: MISSU, or a U-Net of nnU-Net's.
        patch_size: patch size in voxels.
        batch_size: patches per step.
        bytes_per_element: 2 under AMP, 4 without.
    """
    parameters = sum(p.numel() for p in network.parameters())
    activations = estimate_activation_bytes(network, patch_size, batch_size, bytes_per_element)
    return activations + STATE_BYTES_PER_PARAMETER * parameters


def count_activation_bytes(network: nn.Module, x: Tensor) -> int:
    """Count the bytes that autograd keeps for the backward pass of ``network(x)``, without the parameters.

    Tensors that share storage count once.
    """
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(x)  # must live until everything is counted: freed storage is handed out again
    del output
    return sum(kept.values())

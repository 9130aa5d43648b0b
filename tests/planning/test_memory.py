from collections.abc import Callable

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from hypothesis import given
from random_plans import plain_arch_kwargs, plans

from missu_nnunet.architecture.configuration import missu_arch_kwargs, planned_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.planning.memory import (
    STATE_BYTES_PER_PARAMETER,
    count_activation_bytes,
    estimate_activation_bytes,
    estimate_training_bytes,
)


@pytest.mark.parametrize("rule", [missu_arch_kwargs, planned_arch_kwargs])
@given(plan=plans())
def test_estimate_is_what_autograd_keeps(rule: Callable, plan: tuple) -> None:
    kwargs, patch_size = plan
    network = MISSU(1, num_classes=3, deep_supervision=True, **rule(kwargs, patch_size))
    counted = count_activation_bytes(network, torch.randn(2, 1, *patch_size))
    estimated = estimate_activation_bytes(network, patch_size, batch_size=2, bytes_per_element=4)
    assert 0.85 < estimated / counted < 1.2


def test_counts_each_storage_once_and_no_parameters() -> None:
    linear = torch.nn.Linear(8, 4, bias=False)
    x = torch.randn(16, 8, requires_grad=True)
    assert count_activation_bytes(linear, x) == 16 * 8 * 4
    assert count_activation_bytes(torch.nn.Sequential(linear, torch.nn.ReLU(inplace=True)), x) == 16 * (8 + 4) * 4


def test_means_the_same_for_nnunets_networks() -> None:
    network = PlainConvUNet(1, num_classes=3, **plain_arch_kwargs([[1, 1, 1]] + [[2, 2, 2]] * 3))
    counted = count_activation_bytes(network, torch.randn(2, 1, 32, 32, 32))
    assert 0.9 < estimate_activation_bytes(network, (32, 32, 32), 2, 4) / counted < 1.15


def test_training_adds_weights_gradients_and_moments() -> None:
    network = MISSU.paper(1, 2)
    activations = estimate_activation_bytes(network, (64, 64, 64), 1, 2)
    parameters = sum(p.numel() for p in network.parameters())
    total = estimate_training_bytes(network, (64, 64, 64), 1, 2)
    assert total == activations + parameters * STATE_BYTES_PER_PARAMETER

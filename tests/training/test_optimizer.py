import math

import pytest
import torch
from random_plans import plain_arch_kwargs
from torch import nn
from torch.nn.modules.conv import _ConvNd

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.training.optimizer import parameter_groups, skip_nonfinite_gradients


def test_normalisations_biases_and_what_starts_at_zero_do_not_decay() -> None:
    plan = plain_arch_kwargs([[1, 1, 1], [2, 2, 2], [2, 2, 2]])
    network = MISSU(1, num_classes=2, **missu_arch_kwargs(plan, (16, 16, 16)))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, transformer_lr=0.2, weight_decay=0.01)
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays.keys() == set(names.values())
    assert set(decays.values()) == {0.0, 0.01}
    maps = {module for module in network.modules() if isinstance(module, (_ConvNd, nn.Linear))}
    decaying = {names[id(module.weight)] for module in maps} - {"bottleneck.project_out.weight"}
    assert {name for name, decay in decays.items() if decay} == decaying


@pytest.mark.parametrize("value", [1.0, math.nan, math.inf])
def test_a_step_is_taken_if_every_gradient_is_finite(value: float) -> None:
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.SGD(weights, lr=1.0)
    optimizer.register_step_pre_hook(skip_nonfinite_gradients)
    weights[0].grad, weights[1].grad = torch.ones(2), torch.tensor([1.0, value])
    optimizer.step()
    assert all(torch.equal(weight, torch.full((2,), 0.0 if value == 1 else 1.0)) for weight in weights)

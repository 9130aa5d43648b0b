"""What an optimiser is told of MISSU: which weights decay, which learn more slowly, and when it takes no step."""

from typing import Any

import torch
from torch import nn

from missu_nnunet.architecture.transformer import TransformerBottleneck


def parameter_groups(network: nn.Module, transformer_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """An optimiser's parameter groups, by what learns at a share of the learning rate and by what decays.

    Convolutions and linear maps decay. Normalisations and biases do not, nor does the projection behind the
    Transformer, which starts at zero and would be held there.

    Args:
        network: a network with or without a ``TransformerBottleneck`` in it.
        transformer_lr: the Transformer's share, see ``WarmupPolyLRScheduler``.
        weight_decay: the weight decay of what decays.
    """
    bottlenecks = [module for module in network.modules() if isinstance(module, TransformerBottleneck)]
    transformer = {parameter for bottleneck in bottlenecks for parameter in bottleneck.parameters()}
    start_at_zero = {bottleneck.project_out.weight for bottleneck in bottlenecks}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        decay = weight_decay if parameter.ndim > 1 and parameter not in start_at_zero else 0.0
        groups.setdefault((transformer_lr if parameter in transformer else 1.0, decay), []).append(parameter)
    return [
        {"params": parameters, "lr_share": share, "weight_decay": decay}
        for (share, decay), parameters in groups.items()
    ]


def skip_nonfinite_gradients(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Pre-hook of ``Optimizer.step``: drop all gradients if one is not finite, which makes the step do nothing.

    nnU-Net's gradient scaler does the same under AMP; this serves training without one. Gradients are what the
    processes of a distributed training share, so all of them skip together.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if gradients and not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
        optimizer.zero_grad(set_to_none=True)

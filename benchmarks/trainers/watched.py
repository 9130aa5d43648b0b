"""Any arm of ``arms.py``, named ``Watched_<arm>``: after every epoch its log has a line of how the training behaves.

The line is JSON behind ``WATCHED``: the epoch; its mean and worst loss; median and largest norm of the gradient before
nnU-Net clips it; the largest attention logit, of every fiftieth step; the norms of the Transformer's weights and of all
others.
"""

import json
from typing import Any

import arms
import numpy as np
import torch
from torch import Tensor

from missu_nnunet.architecture.transformer import Attention, TransformerBottleneck, rotate

WATCHED = "watched: "
STEPS_PER_LOOK = 50
"""Attention logits are computed a second time to be seen, which takes time."""


def __getattr__(name: str) -> type:
    if not name.startswith("Watched_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return type(name, (_watched(getattr(arms, name.removeprefix("Watched_"))),), {"__module__": __name__})


def _watched(base: Any) -> Any:
    """``base``, which notes what it does."""

    class Watched(base):
        def initialize(self) -> None:
            super().initialize()
            self._forget()
            for parameter in self.network.parameters():
                parameter.register_post_accumulate_grad_hook(self._see_gradient)
            for module in self.network.modules():
                if isinstance(module, Attention):
                    module.register_forward_hook(self._see_logits)

        def _forget(self) -> None:
            self.squares: list[Tensor] = []
            self.gradient_norms: list[float] = []
            self.logits: list[float] = []

        def _see_gradient(self, parameter: Tensor) -> None:
            assert parameter.grad is not None
            self.squares.append(parameter.grad.detach().float().square().sum())

        def _see_logits(self, module: Attention, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
            if module.training and len(self.gradient_norms) % STEPS_PER_LOOK == 0:
                self.logits.append(largest_logit(module, *inputs))

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            outputs = super().train_step(batch)
            self.gradient_norms.append(torch.stack(self.squares).sum().sqrt().item())
            self.squares = []
            return outputs

        def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
            super().on_train_epoch_end(train_outputs)
            losses = [float(outputs["loss"]) for outputs in train_outputs]
            transformer, others = weight_norms(self.network)
            seen = {
                "epoch": self.current_epoch,
                "mean_loss": np.mean(losses),
                "worst_loss": np.max(losses),
                "median_gradient_norm": np.median(self.gradient_norms),
                "largest_gradient_norm": np.max(self.gradient_norms),
                "largest_attention_logit": max(self.logits, default=0.0),
                "transformer_weight_norm": transformer,
                "other_weight_norm": others,
            }
            self.print_to_log_file(WATCHED + json.dumps({key: float(value) for key, value in seen.items()}))
            self._forget()

    return Watched


@torch.no_grad()
def largest_logit(attention: Attention, x: Tensor, rotations: Tensor) -> float:
    """The largest logit by size, for tokens ``x`` ``(B, tokens, embedding_dim)``."""
    batch, tokens, _ = x.shape
    q, k, _ = attention.qkv(x).view(batch, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = rotate(attention.norm_q(q), rotations), rotate(attention.norm_k(k), rotations)
    return (q @ k.mT / q.shape[-1] ** 0.5).abs().max().item()


@torch.no_grad()
def weight_norms(network: torch.nn.Module) -> tuple[float, float]:
    """Euclidean norms of the Transformer's weights and of all others."""
    bottlenecks = [module for module in network.modules() if isinstance(module, TransformerBottleneck)]
    transformer = [parameter for bottleneck in bottlenecks for parameter in bottleneck.parameters()]
    known = {id(parameter) for parameter in transformer}
    others = [parameter for parameter in network.parameters() if id(parameter) not in known]
    norms = (sum((p.float().square().sum().item() for p in group), 0.0) ** 0.5 for group in (transformer, others))
    return next(norms), next(norms)

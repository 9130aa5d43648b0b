"""The distillation terms and the total loss of a self-distilling training."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TrainingOutput(NamedTuple):
    """What the network and its training-only parts return together, in training.

    Attributes:
        segmentation: logits ``(B, classes, D, H, W)``, a list of them (finest first) with deep supervision.
        auxiliary: logits of the fusion blocks' heads, finest first; empty where the raw skip teaches.
        distillation: the distillation term, a scalar.
    """

    segmentation: Tensor | list[Tensor]
    auxiliary: list[Tensor]
    distillation: Tensor


def softmax_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Kullback–Leibler divergence between channel-wise softmaxes, averaged per voxel, times the squared temperature.

    Serves features, as in the authors' release, and the logits of exclusive classes. Computed in float32 whatever
    autocast chose, since logits of half precision overflow in the exponential.

    Args:
        teacher: ``(B, C, D, H, W)``; receives no gradient.
        student: the same shape.
        temperature: above 0; softens both distributions.
    """
    log_teacher = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    log_student = F.log_softmax(student.float() / temperature, dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)
    return divergence.mean() * temperature**2


def sigmoid_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Like :func:`softmax_kl` for the logits of overlapping regions: one Bernoulli distribution per channel, summed."""
    teacher = teacher.detach().float() / temperature
    student = student.float() / temperature
    posterior = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, posterior, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, posterior, reduction="none")
    return (cross_entropy - entropy).sum(dim=1).mean() * temperature**2


def level_weights(n_levels: int, decay: float) -> list[float]:
    """Weights of the skip levels, finest first, each ``decay`` times the one before; they sum to 1."""
    weights = [decay**level for level in range(n_levels)]
    return [weight / sum(weights) for weight in weights]


class SelfDistillationLoss(nn.Module):
    """Segmentation loss + ``w_aux`` × auxiliary heads' loss + ``w_kd`` × distillation term.

    Also takes what the network returns by itself; the segmentation loss is then all there is.

    Args:
        segmentation_loss: nnU-Net's loss over the network's output and the target.
        auxiliary_loss: nnU-Net's loss of one resolution.
        w_aux: weight of the auxiliary heads.
        w_kd: weight of the distillation term; the trainer raises it.
        level_decay: weight of a skip level over that of the next finer one.

    Attributes:
        terms: the unweighted terms of the latest call, detached, for the log.
    """

    def __init__(
        self,
        segmentation_loss: Callable[[Tensor | list[Tensor], Tensor | list[Tensor]], Tensor],
        auxiliary_loss: Callable[[Tensor, Tensor], Tensor],
        w_aux: float,
        w_kd: float,
        level_decay: float,
    ) -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.auxiliary_loss = auxiliary_loss
        self.w_aux = w_aux
        self.w_kd = w_kd
        self.level_decay = level_decay
        self.terms: dict[str, Tensor] = {}

    def forward(self, output: TrainingOutput | Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Network or training output and nnU-Net's target (a list, finest first, with deep supervision) → scalar."""
        if not isinstance(output, TrainingOutput):
            output = TrainingOutput(output, [], torch.zeros(()))
        segmentation = self.segmentation_loss(output.segmentation, target)
        auxiliary = self._auxiliary(output.auxiliary, target[0] if isinstance(target, list) else target)
        self.terms = {
            "seg_loss": segmentation.detach(),
            "aux_loss": auxiliary.detach(),
            "kd_loss": output.distillation.detach(),
        }
        return segmentation + self.w_aux * auxiliary + self.w_kd * output.distillation

    def _auxiliary(self, auxiliary: list[Tensor], target: Tensor) -> Tensor:
        """Loss of the heads against the finest target, which is brought to each head's grid by its nearest voxels."""
        loss = torch.zeros((), device=target.device)
        for weight, logits in zip(level_weights(len(auxiliary), self.level_decay), auxiliary, strict=True):
            level_target = F.interpolate(target.float(), size=logits.shape[2:], mode="nearest-exact").to(target.dtype)
            loss = loss + weight * self.auxiliary_loss(logits, level_target)
        return loss

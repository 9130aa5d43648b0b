"""The distillation terms and the total loss of a self-distilling training."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TrainingOutput(NamedTuple):
    """The joint output of the network and the teachers of its skip connections, in training.

    Attributes:
        segmentation: logits ``(B, classes, D, H, W)``, a list of them (finest first) with deep supervision.
        auxiliary: logits of the fusion blocks' heads, finest first; empty where the raw skip teaches.
        teachers: the features that teach, detached, finest first.
        students: the decoder's features of the same levels and shapes.
    """

    segmentation: Tensor | list[Tensor]
    auxiliary: list[Tensor]
    teachers: list[Tensor]
    students: list[Tensor]


def softmax_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Kullback–Leibler divergence between the channel-wise softmaxes of features, averaged per voxel (the release's).

    Computed in float32 whatever autocast chose, since features of half precision overflow in the exponential.

    Args:
        teacher: ``(B, C, D, H, W)``; receives no gradient.
        student: the same shape.
    """
    log_teacher = F.log_softmax(teacher.detach().float(), dim=1)
    log_student = F.log_softmax(student.float(), dim=1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1).mean()


def consistency(posterior: Tensor, logits: Tensor, regions: bool) -> Tensor:
    """Cross-entropy between a teacher's probabilities and a student's, averaged per voxel, in float32.

    Args:
        posterior: the teacher's, ``(B, classes, D, H, W)``.
        logits: the student's, of the same shape.
        regions: whether classes are overlapping regions (sigmoid) rather than exclusive (softmax).
    """
    if regions:
        return F.binary_cross_entropy_with_logits(logits.float(), posterior)
    return F.cross_entropy(logits.float(), posterior)


def level_weights(n_levels: int, decay: float) -> list[float]:
    """Weights of the skip levels, finest first, each ``decay`` times the one before; they sum to 1."""
    weights = [decay**level for level in range(n_levels)]
    return [weight / sum(weights) for weight in weights]


class SelfDistillationLoss(nn.Module):
    """Segmentation loss + ``w_kd`` × distillation term + ``w_aux`` × auxiliary heads' loss.

    The distillation term is the consistency with ``posterior`` where the trainer has put one there, and the
    divergence of the skip connections' features where the network returns a ``TrainingOutput``. With a ``posterior``
    the network's batch is longer than the target: the patches without a target are those that the posterior is of.

    Args:
        segmentation_loss: nnU-Net's loss over the network's output and the target.
        auxiliary_loss: nnU-Net's loss of one resolution.
        regions: whether classes are overlapping regions.
        w_kd: weight of the distillation term.
        w_aux: weight of the auxiliary heads.
        level_decay: weight of a skip level over that of the next finer one.

    Attributes:
        posterior: the moving average's probabilities ``(M, classes, D, H, W)`` of the batch's last M patches, or None.
        terms: the unweighted terms of the latest call, detached, for the log.
    """

    def __init__(
        self,
        segmentation_loss: Callable[[Tensor | list[Tensor], Tensor | list[Tensor]], Tensor],
        auxiliary_loss: Callable[[Tensor, Tensor], Tensor],
        regions: bool,
        w_kd: float,
        w_aux: float,
        level_decay: float,
    ) -> None:
        super().__init__()
        self.segmentation_loss = segmentation_loss
        self.auxiliary_loss = auxiliary_loss
        self.regions = regions
        self.w_kd = w_kd
        self.w_aux = w_aux
        self.level_decay = level_decay
        self.posterior: Tensor | None = None
        self.terms: dict[str, Tensor] = {}

    def forward(self, output: TrainingOutput | Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Network or training output and nnU-Net's target (a list, finest first, with deep supervision) → scalar."""
        if not isinstance(output, TrainingOutput):
            output = TrainingOutput(output, [], [], [])
        segmentation = self.segmentation_loss(_first(output.segmentation, len(finest(target))), target)
        distillation = self._distillation(output)
        auxiliary = self._auxiliary(output.auxiliary, finest(target))
        self.terms = {
            "seg_loss": segmentation.detach(),
            "kd_loss": distillation.detach(),
            "aux_loss": auxiliary.detach(),
        }
        return segmentation + self.w_kd * distillation + self.w_aux * auxiliary

    def _distillation(self, output: TrainingOutput) -> Tensor:
        logits = finest(output.segmentation)
        if self.posterior is not None:
            return consistency(self.posterior, logits[-len(self.posterior) :], self.regions)
        loss = torch.zeros((), device=logits.device)
        weights = level_weights(len(output.students), self.level_decay)
        for weight, teacher, student in zip(weights, output.teachers, output.students, strict=True):
            loss = loss + weight * softmax_kl(teacher, student)
        return loss

    def _auxiliary(self, auxiliary: list[Tensor], target: Tensor) -> Tensor:
        """Loss of the heads against the finest target, which is brought to each head's grid by its nearest voxels."""
        loss = torch.zeros((), device=target.device)
        for weight, logits in zip(level_weights(len(auxiliary), self.level_decay), auxiliary, strict=True):
            level_target = F.interpolate(target.float(), size=logits.shape[2:], mode="nearest-exact").to(target.dtype)
            loss = loss + weight * self.auxiliary_loss(logits, level_target)
        return loss


def _first(levels: Tensor | list[Tensor], patches: int) -> Tensor | list[Tensor]:
    return [level[:patches] for level in levels] if isinstance(levels, list) else levels[:patches]


def finest(levels: Tensor | list[Tensor]) -> Tensor:
    """What belongs to the finest resolution: the first of a list, with deep supervision, or else all there is."""
    return levels[0] if isinstance(levels, list) else levels

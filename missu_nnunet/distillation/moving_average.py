"""The network's own moving average, which teaches it where labels are missing.

Source: the mean teacher (Tarvainen and Valpola, arXiv:1703.01780). The average of the weights of many steps makes fewer
errors than the weights of any one of them, so that it can teach what nobody labelled.
"""

from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.cutmix import CutMix

_Tensors = tuple[Tensor, ...] | list[Tensor]


def mixed_patches(patches: int) -> int:
    """So many mixed patches follow a batch of ``patches``: half as many."""
    return (patches + 1) // 2


class MovingAverage(AveragedModel):
    """The exponential moving average of a network's weights.

    It is in evaluation mode, without deep supervision, and knows no gradient. Its ``state_dict`` holds the averaged
    weights and the number of updates.

    Args:
        network: the inference network, which is copied.
        decay: share of the average that an update keeps. Early updates keep less, so that the first weights, which are
            random, are soon forgotten.
    """

    def __init__(self, network: MISSU, decay: float) -> None:
        def update(averages: _Tensors, weights: _Tensors, n_updates: Tensor | int) -> None:
            n = float(n_updates)
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(network, multi_avg_fn=update)
        cast(MISSU, self.module).decoder.deep_supervision = False
        self.requires_grad_(False)
        self.eval()

    def teach(self, data: Tensor, patches: int, regions: bool) -> tuple[Tensor, Tensor]:
        """Paste boxes into the patches behind the first ones, or else into half of those once more, and label them.

        Half teaches about as much as all of them, and costs less.

        Args:
            data: images ``(B, C, D, H, W)``.
            patches: so many, the first ones, are kept as they are; those behind, if there are any, are mixed.
            regions: whether classes are overlapping regions.

        Returns:
            The first images followed by M mixed ones, ``(patches + M, C, D, H, W)``, and the average's probabilities of
            what was mixed, mixed likewise, ``(M, classes, D, H, W)``.
        """
        kept, others = data[:patches], data[patches:]
        if not len(others):
            others = kept[: mixed_patches(patches)]
        mix = CutMix(len(others), data.ndim - 2)
        beside = kept[len(others) % patches]  # a box comes from the next patch, which the last one lacks
        sources = torch.cat((others, beside[None]))
        return torch.cat((kept, mix(sources))), mix(self.posterior(sources, regions))

    @torch.no_grad()
    def posterior(self, x: Tensor, regions: bool) -> Tensor:
        """Image ``(B, C, D, H, W)`` → probabilities ``(B, classes, D, H, W)`` in float32.

        Args:
            x: the image.
            regions: whether classes are overlapping regions (sigmoid) rather than exclusive (softmax).
        """
        logits: Tensor = self.module(x).float()
        return logits.sigmoid() if regions else logits.softmax(dim=1)

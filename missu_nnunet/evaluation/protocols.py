"""Protocols: which metrics a challenge reports, and what a class scores that prediction or reference lack.

The definitions of BraTS and CHAOS are the organisers' own; ``docs/datasets.md`` describes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from missu_nnunet.evaluation.mask_pair import MaskPair
from missu_nnunet.evaluation.metrics import METRICS

Classes = Mapping[str, tuple[int, ...]]
"""The labels of each class or region, by its name."""

DIAGONAL = 373.13
"""The diagonal of BraTS's image of 240×240×155 voxels of 1 mm, in mm: the worst distance that BraTS gives."""


@dataclass(frozen=True)
class Protocol:
    """How one community scores a class.

    Attributes:
        name: name of the protocol on the command line.
        metrics: names of the metrics that are reported when the user does not choose.
        classes: the organisers' classes and labels, for data without a ``dataset.json``.
        both_empty: values of metrics where neither prediction nor reference has the class.
        one_empty: values of metrics where only one of the two has it. Metrics that are not listed keep their own value,
            which is NaN (not scored) where it is undefined.
        needs_reference: whether a class that the reference lacks is left unscored.
        outside_is_foreground: how borders at the faces of the volume are drawn, see ``MaskPair``.
    """

    name: str
    metrics: tuple[str, ...]
    classes: Classes = field(default_factory=dict)
    both_empty: Mapping[str, float] = field(default_factory=dict)
    one_empty: Mapping[str, float] = field(default_factory=dict)
    needs_reference: bool = False
    outside_is_foreground: bool = False

    def score(self, pair: MaskPair, metrics: Sequence[str], tolerance: float) -> dict[str, float]:
        """Compute each metric for one class of one case; NaN where all voxels are ignored.

        Args:
            pair: the masks.
            metrics: names of the metrics.
            tolerance: tolerance of "nsd" in mm.
        """
        if not pair.voxels or (self.needs_reference and not pair.n_reference):
            return dict.fromkeys(metrics, math.nan)
        convention: Mapping[str, float] = {}
        if not pair.n_reference or not pair.n_prediction:
            convention = self.one_empty if pair.n_reference or pair.n_prediction else self.both_empty
        return {
            name: convention[name] if name in convention else METRICS[name].value(pair, tolerance) for name in metrics
        }


NNUNET = Protocol(name="nnunet", metrics=("dice",))

BRATS = Protocol(
    name="brats",
    metrics=("dice", "hd95", "sensitivity", "specificity"),
    classes={"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)},
    # The organisers set Dice and HD95; the other surface metrics follow suit.
    both_empty={"dice": 1.0, "nsd": 1.0, "hd95": 0.0, "assd": 0.0, "mssd": 0.0},
    one_empty={"hd95": DIAGONAL, "assd": DIAGONAL, "mssd": DIAGONAL},
)

CHAOS = Protocol(
    name="chaos",
    metrics=("dice", "ravd", "assd", "mssd", "score"),
    classes={"liver": (1,), "right kidney": (2,), "left kidney": (3,), "spleen": (4,)},
    # CT has no reference of kidneys and spleen: a prediction of them there is neither right nor wrong.
    needs_reference=True,
    outside_is_foreground=True,
)

PROTOCOLS = {protocol.name: protocol for protocol in (NNUNET, BRATS, CHAOS)}

"""What a challenge reports: its metrics, and what a region scores that one of the two lacks.

The definitions of BraTS and CHAOS are the organisers'; see docs/datasets.md for where they are written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from missu_nnunet.evaluation.mask_pair import MaskPair
from missu_nnunet.evaluation.metrics import METRICS

Classes = Mapping[str, tuple[int, ...]]
"""A name for each class or region, and the labels that make it up."""

DIAGONAL = 373.13
"""mm; the diagonal of BraTS's 240×240×155 image of 1 mm: the worst distance it gives."""


@dataclass(frozen=True)
class Protocol:
    """How one community scores a class.

    Attributes:
        name: its name on the command line.
        metrics: metrics that are reported when the user does not choose.
        classes: the organisers' classes and labels, for data that comes without a dataset.json.
        both_empty: value of a metric where neither prediction nor reference has the class.
        one_empty: value of a metric where one of the two has it. Metrics not listed keep their own value, NaN (not
            scored) where that is undefined.
        needs_reference: leave a case unscored where the reference lacks the class.
        outside_is_foreground: how borders are drawn (``MaskPair``).
    """

    name: str
    metrics: tuple[str, ...]
    classes: Classes = field(default_factory=dict)
    both_empty: Mapping[str, float] = field(default_factory=dict)
    one_empty: Mapping[str, float] = field(default_factory=dict)
    needs_reference: bool = False
    outside_is_foreground: bool = False

    def score(self, pair: MaskPair, metrics: Sequence[str], tolerance: float) -> dict[str, float]:
        """The value of each metric for one class of one case; ``tolerance`` (mm) is that of "nsd"."""
        if self.needs_reference and not pair.n_reference:
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

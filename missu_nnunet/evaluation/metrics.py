"""The metrics: one record each, from which options, checks, tables and charts follow.

A new metric is a method of ``missu_nnunet.evaluation.mask_pair.MaskPair`` and a record here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from missu_nnunet.evaluation.mask_pair import MaskPair


@dataclass(frozen=True)
class Metric:
    """A metric of one class of one case.

    Attributes:
        name: the metric's name on the command line, in tables and in files.
        value: function of a pair of masks and a tolerance (mm), which only "nsd" uses, that computes the metric.
        larger_is_better: whether larger values are better than smaller ones.
        unit: unit of the values; empty for a share.
        protocol: the only protocol that has the metric; empty where all have it.
    """

    name: str
    value: Callable[[MaskPair, float], float]
    larger_is_better: bool
    unit: str = ""
    protocol: str = ""

    @property
    def title(self) -> str:
        """The name with the unit, "hd95 (mm)"."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def chaos_score(dice: float, ravd: float, assd: float, mssd: float) -> float:
    """Compute the CHAOS challenge's score of an organ, 0–100: the mean of four metrics, each 0 beyond a threshold.

    Args:
        dice: Dice of the organ, 0–1.
        ravd: relative absolute volume difference in %.
        assd: average symmetric surface distance in mm; NaN where the organ was not predicted at all, which scores 0.
        mssd: maximum symmetric surface distance in mm; NaN likewise.
    """
    return (
        (100 * dice if dice >= 0.8 else 0)
        + (100 - 20 * ravd if ravd <= 5 else 0)
        + (100 - 20 / 3 * assd if assd <= 15 else 0)
        + (100 - 5 / 3 * mssd if mssd <= 60 else 0)
    ) / 4


_ALL = (
    Metric("dice", lambda pair, _: pair.dice(), larger_is_better=True),
    Metric("hd95", lambda pair, _: pair.hd95(), larger_is_better=False, unit="mm"),
    Metric("assd", lambda pair, _: pair.assd(), larger_is_better=False, unit="mm"),
    Metric("mssd", lambda pair, _: pair.mssd(), larger_is_better=False, unit="mm"),
    Metric("ravd", lambda pair, _: pair.ravd(), larger_is_better=False, unit="%"),
    Metric("nsd", lambda pair, tolerance: pair.nsd(tolerance), larger_is_better=True),
    Metric("sensitivity", lambda pair, _: pair.sensitivity(), larger_is_better=True),
    Metric("specificity", lambda pair, _: pair.specificity(), larger_is_better=True),
    Metric(
        "score",
        lambda pair, _: chaos_score(pair.dice(), pair.ravd(), pair.assd(), pair.mssd()),
        larger_is_better=True,
        protocol="chaos",
    ),
)

METRICS = {metric.name: metric for metric in _ALL}
"""Every metric by its name."""


def offered_metrics(protocol: str = "") -> list[str]:
    """List the names of the metrics that a protocol has; without a protocol, of those that all have."""
    return [metric.name for metric in _ALL if metric.protocol in ("", protocol)]

"""The colours of classes, and of what a prediction got wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.uint8]
"""Grey values, or kinds of errors."""

Labels = NDArray[np.unsignedinteger[Any]]
"""Labels, of which nnU-Net has up to 32767."""

# After Okabe and Ito: distinct for colour-blind readers, visible on grey, and none of them a difference colour.
_CLASSES = ("#56B4E9", "#E69F00", "#009E73", "#0072B2", "#A6761D", "#AA4499")

DIFFERENCES = {"missed": "#FF66CC", "extra": "#D50000", "confused": "#F0E442"}
"""What a prediction can get wrong, and its colour."""

IGNORED = "#9A9A9A"
"""The colour of the ignore label."""

_MISSED, _EXTRA, _CONFUSED, _IGNORED = 1, 2, 3, 4


def class_colours(labels: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Choose the colour of each class or region."""
    return {name: _CLASSES[index % len(_CLASSES)] for index, name in enumerate(labels)}


def label_colours(labels: Mapping[str, Sequence[int]], ignore: int | None = None) -> dict[int, str]:
    """Choose the colour of each label: that of the smallest region to which it belongs.

    Args:
        labels: labels of each class or region.
        ignore: the ignore label, if there is one.
    """
    colours = class_colours(labels)
    found = {} if ignore is None else {ignore: IGNORED}
    for name in sorted(labels, key=lambda name: len(labels[name]), reverse=True):
        found |= dict.fromkeys(labels[name], colours[name])
    return found


def difference_map(reference: Labels, prediction: Labels, ignore: int | None = None) -> Volume:
    """Map the errors of a prediction: 1 missed, 2 extra, 3 one class taken for another, 4 ignored in the reference."""
    wrong = reference != prediction
    difference = np.zeros(reference.shape, np.uint8)
    difference[wrong & (prediction == 0)] = _MISSED
    difference[wrong & (reference == 0)] = _EXTRA
    difference[wrong & (reference != 0) & (prediction != 0)] = _CONFUSED
    if ignore is not None:
        difference[reference == ignore] = _IGNORED
    return difference


def difference_colours() -> dict[int, str]:
    """Return the colours of the values of ``difference_map``."""
    missed, extra, confused = DIFFERENCES.values()
    return {_MISSED: missed, _EXTRA: extra, _CONFUSED: confused, _IGNORED: IGNORED}

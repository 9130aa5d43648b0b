"""Divides nnU-Net's sliding windows into rows, after each of which a part of the image is finished."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import NamedTuple

Window = tuple[slice | int, ...]
"""Where a window of nnU-Net's lies in an image ``(C, D, H, W)``; that of a 2D configuration in one of D slices."""

SLICES = 16
"""So many slices of a 2D configuration make a row, so that an ensemble of folds seldom changes its weights."""


class Row(NamedTuple):
    """Windows that start in the same place of the first axis.

    Attributes:
        start: the place.
        stop: where the next row starts, so that nothing more is predicted before it.
        windows: the windows.
    """

    start: int
    stop: int
    windows: list[Window]

    @property
    def depth(self) -> int:
        """How far the windows reach along the first axis."""
        axis = self.windows[-1][1]
        return (axis.stop if isinstance(axis, slice) else axis + 1) - self.start

    def place(self, window: Window) -> Window:
        """Where a window lies in the row."""
        axis = window[1]
        return (window[0], slice(0, self.depth) if isinstance(axis, slice) else axis - self.start, *window[2:])


def rows_of(windows: Iterable[Window], length: int) -> list[Row]:
    """Divide an image's windows, which nnU-Net gives in the order of the first axis, into rows.

    Args:
        windows: the windows.
        length: voxels along the first axis.
    """

    def start(window: Window) -> int:
        return window[1].start if isinstance(window[1], slice) else window[1] // SLICES * SLICES

    found = {begin: list(row) for begin, row in groupby(windows, start)}
    return [Row(begin, end, found[begin]) for begin, end in pairwise([*found, length])]

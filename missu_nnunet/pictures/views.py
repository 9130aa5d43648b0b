"""Chooses which slices of a case to draw, and on which of its channels each label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from missu_nnunet.boxes import bounding_box
from missu_nnunet.pictures.colours import Labels, Volume, difference_colours, difference_map
from missu_nnunet.pictures.orientation import Geometry, Marks
from missu_nnunet.pictures.slices import coloured, cut, fullest_slice, size_in_pixels

_CLEARLY_BETTER = 1.5  # how many times the contrast a label must have in another channel than the others' to be moved
_RING = 2  # voxels around a label that it is to stand out from


@dataclass(frozen=True)
class View:
    """A slice of a case on one of its channels.

    Attributes:
        channel: name of the channel; empty where the case has one channel or no image.
        plane: "axial", "coronal", "sagittal", or "image" for a 2D case.
        axis: array axis that the plane cuts.
        index: index of the slice in the part of the image that is shown.
        number: number of the slice in the file, from 1; None for a 2D case.
        marks: letters of the directions at the picture's sides.
        background: grey values of the channel's slice, 0 to 255.
        labels: labels that are best seen on this channel.
        size: width and height in pixels.
    """

    channel: str
    plane: str
    axis: int
    index: int
    number: int | None
    marks: Marks | None
    background: Volume
    labels: tuple[int, ...]
    size: tuple[int, int]

    @property
    def title(self) -> str:
        """Plane, number of the slice and channel, such as "axial 31, T2"."""
        where = self.plane if self.number is None else f"{self.plane} {self.number}"
        return f"{where}, {self.channel}" if self.channel else where

    def image(self) -> Image.Image:
        """Draw the channel alone."""
        return coloured(self.background, None, {}, self.size, self.marks)

    def segmentation(self, volume: Labels, palette: Mapping[int, str]) -> Image.Image:
        """Draw the channel with the view's labels of a segmentation ``(Z, Y, X)``; ``palette`` is label → colour."""
        shown = {label: colour for label, colour in palette.items() if label in self.labels}
        return coloured(self.background, self.cut(volume), shown, self.size, self.marks)

    def difference(self, reference: Labels, prediction: Labels, ignore: int | None) -> Image.Image:
        """Draw the channel with the errors of a prediction that concern the view's labels."""
        truth, guess = self.cut(reference), self.cut(prediction)
        found = difference_map(truth, guess, ignore)
        found[~(np.isin(truth, self.labels) | np.isin(guess, self.labels))] = 0
        return coloured(self.background, found, difference_colours(), self.size, self.marks)

    def cut(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Take the same slice of another volume of the case."""
        return cut(volume, self.axis, self.index)


def views(
    channels: Mapping[str, Volume],
    segmentation: Labels,
    geometry: Geometry,
    labels: Iterable[int],
    side: int,
    ignore: int | None = None,
) -> list[View]:
    """Choose three planes, or one of a 2D case, of each channel on which some label is best seen.

    Each plane is the slice that shows most of the segmentation. Without channels, the background is grey.

    Args:
        channels: name → grey values ``(Z, Y, X)``.
        segmentation: labels ``(Z, Y, X)`` by which the slices are chosen.
        geometry: geometry of both.
        labels: the labels to draw.
        side: pixels of the pictures' longer side.
        ignore: the ignore label, which is drawn on every channel.
    """
    found = []
    wanted = [label for label in labels if label != ignore]
    for channel, shown in labels_by_channel(channels, segmentation, wanted).items():
        background = channels.get(channel, np.full_like(segmentation, 50, np.uint8))
        for axis, plane in enumerate(geometry.planes):
            index = fullest_slice(segmentation, axis, shown)
            grey = cut(background, axis, index)
            view = View(
                channel=channel if len(channels) > 1 else "",
                plane=plane,
                axis=axis,
                index=index,
                number=geometry.slice_number(axis, index) if len(geometry.planes) > 1 else None,
                marks=geometry.marks(axis),
                background=grey,
                labels=shown if ignore is None else (*shown, ignore),
                size=size_in_pixels(grey, geometry.plane_spacing(axis), side),
            )
            found.append(view)
    return found


def labels_by_channel(
    channels: Mapping[str, Volume], segmentation: Labels, labels: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Choose the channel for each label: the one with the best contrast for all, unless another is clearly better.

    Contrast is the difference between the means inside and around a label, divided by their standard deviation. Labels
    that do not occur stay with the others.

    Args:
        channels: name → grey values ``(Z, Y, X)``.
        segmentation: labels ``(Z, Y, X)``.
        labels: the labels to draw.

    Returns:
        Channel → the labels to draw on it.
    """
    if len(channels) < 2:
        return {next(iter(channels), ""): tuple(labels)}
    contrasts = {label: _contrasts(channels, segmentation == label) for label in labels}
    main = int(np.argmax(np.sum(list(contrasts.values()), axis=0)))
    found: dict[str, tuple[int, ...]] = {}
    for label, by_channel in contrasts.items():
        best = int(np.argmax(by_channel))
        name = list(channels)[best if by_channel[best] > _CLEARLY_BETTER * by_channel[main] else main]
        found[name] = (*found.get(name, ()), label)
    return {name: found[name] for name in channels if name in found}


def _contrasts(channels: Mapping[str, Volume], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How well the mask is told from its surroundings on each channel."""
    box = bounding_box(mask, _RING)
    if box is None:
        return np.zeros(len(channels))
    inside = mask[box]
    around = binary_dilation(inside, iterations=_RING) & ~inside
    if not around.any():
        return np.zeros(len(channels))
    found = []
    for channel in channels.values():
        first, second = channel[box][inside].astype(float), channel[box][around].astype(float)
        found.append(abs(first.mean() - second.mean()) / (np.sqrt((first.var() + second.var()) / 2) + 1))
    return np.array(found)

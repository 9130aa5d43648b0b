"""Draws slices of a turned volume: grey, with labels in colour and marks at the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from missu_nnunet.pictures.colours import Labels, Volume
from missu_nnunet.pictures.orientation import Marks


def window(values: NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and the highest of the middle 99 % of the finite values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5))
    return float(low), float(high)


def grey(values: NDArray[Any]) -> Volume:
    """Scale the middle 99 % of the values to 0–255; NaN becomes 0."""
    low, high = window(values)
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.nan_to_num(scaled), 0, 255).round().astype(np.uint8)


def fullest_slice(labels: Labels, axis: int, wanted: Sequence[int]) -> int:
    """Find the slice with the largest shares of the wanted labels; the middle one where there are none.

    Args:
        labels: labels of a volume ``(Z, Y, X)``.
        axis: axis that the slices cut.
        wanted: labels that count.
    """
    others = tuple(other for other in range(3) if other != axis)
    profiles = [profile for label in wanted if (profile := (labels == label).sum(axis=others)).any()]
    if not profiles:
        return labels.shape[axis] // 2
    return int(np.argmax(sum(profile / profile.sum() for profile in profiles)))


def cut(volume: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Take a slice of a turned volume, with anterior or superior up."""
    plane = np.take(volume, index, axis)
    return plane if axis == 0 else plane[::-1]


def size_in_pixels(plane: NDArray[Any], spacing: Sequence[float], side: int) -> tuple[int, int]:
    """Return the width and height in pixels of a slice whose longer side takes ``side`` pixels.

    Args:
        plane: the slice ``(rows, columns)``.
        spacing: spacing of rows and columns in mm.
        side: pixels of the longer side.
    """
    height, width = plane.shape[0] * spacing[0], plane.shape[1] * spacing[1]
    scale = side / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def coloured(
    grey: Volume, labels: Labels | None, palette: Mapping[int, str], size: tuple[int, int], marks: Marks | None = None
) -> Image.Image:
    """Draw a slice with its labels, which are outlined and filled transparently.

    Args:
        grey: grey values of the slice ``(rows, columns)``.
        labels: labels of the slice, if there are some.
        palette: label → colour; labels without one are not drawn.
        size: width and height in pixels.
        marks: letters of the directions at the picture's sides.
    """
    picture = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB"), float)
    if labels is not None:
        # PIL resizes whole numbers of 8 and of 32 bits.
        enlarged = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
        outline = _outline(enlarged)
        for label, colour in palette.items():
            mask = enlarged == label
            opacity = np.where(outline, 1.0, 0.4)[mask][:, None]
            picture[mask] = (1 - opacity) * picture[mask] + opacity * 255 * np.array(to_rgb(colour))
    drawn = Image.fromarray(picture.round().astype(np.uint8))
    if marks:
        draw_marks(drawn, marks)
    return drawn


def draw_marks(picture: Image.Image, marks: Marks) -> None:
    """Write the letters at the middles of the picture's sides."""
    width, height = picture.size
    size = max(max(width, height) / 14, 9)
    places = {
        "lm": ((size / 4, height / 2), marks.left),
        "rm": ((width - size / 4, height / 2), marks.right),
        "ma": ((width / 2, size / 6), marks.top),
        "md": ((width / 2, height - size / 6), marks.bottom),
    }
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for anchor, (position, letter) in places.items():
        draw.text(position, letter, "white", font, anchor, stroke_width=max(1, size / 12), stroke_fill="black")


def _outline(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Pixels beside another label."""
    outline = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            outline |= np.roll(labels, step, axis) != labels
    return outline

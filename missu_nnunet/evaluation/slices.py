"""Slices of a volume as a person looks at them: oriented, grey, with labels in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from missu_nnunet.evaluation.overlays import COLOURS

Volume = NDArray[np.uint8]

PLANES = ("axial", "coronal", "sagittal")
"""Of a volume (z, y, x), by the axis that they cut."""

IGNORED = "#9A9A9A"
"""The colour of the ignore label."""


def oriented(image: sitk.Image) -> sitk.Image:
    """3D, in LPS orientation: first row anterior, first column the patient's right."""
    return sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else sitk.JoinSeries(image)


def voxels(image: sitk.Image) -> NDArray[Any]:
    """The oriented image's values, (z, y, x); colours become their mean."""
    array = sitk.GetArrayFromImage(oriented(image))
    return array.mean(axis=-1) if image.GetNumberOfComponentsPerPixel() > 1 else array


def grey(values: NDArray[Any]) -> Volume:
    """The middle 99 % of the values, as 0 to 255."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) * (255 / max(high - low, 1e-12)), 0, 255).round().astype(np.uint8)


def class_colours(labels: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """class or region → its colour."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(labels)}


def label_colours(labels: Mapping[str, Sequence[int]], ignore: int | None = None) -> dict[int, str]:
    """label → its colour: that of the smallest region it belongs to."""
    colours = class_colours(labels)
    found = {} if ignore is None else {ignore: IGNORED}
    for name in sorted(labels, key=lambda name: len(labels[name]), reverse=True):
        found |= dict.fromkeys(labels[name], colours[name])
    return found


def fullest_slice(labels: Volume, axis: int, ignore: int | None = None) -> int:
    """The slice with the largest shares of all labels; the middle one where there is no label."""
    others = tuple(other for other in range(3) if other != axis)
    present = [label for label in np.unique(labels) if label not in (0, ignore)]
    if not present:
        return labels.shape[axis] // 2
    profiles = [(labels == label).sum(axis=others) for label in present]
    return int(np.argmax(sum(profile / profile.sum() for profile in profiles)))


def cut(volume: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """A slice of an oriented volume: anterior or superior up."""
    plane = np.take(volume, index, axis)
    return plane if axis == 0 else plane[::-1]


def size_in_pixels(plane: NDArray[Any], spacing: Sequence[float], side: int) -> tuple[int, int]:
    """Width and height of a slice whose longer side takes `side` pixels; `spacing` is that of rows and columns."""
    height, width = plane.shape[0] * spacing[0], plane.shape[1] * spacing[1]
    scale = side / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def coloured(grey: Volume, labels: Volume | None, palette: Mapping[int, str], size: tuple[int, int]) -> Image.Image:
    """A slice, with its labels filled transparently and outlined.

    Args:
        grey: (rows, columns).
        labels: likewise.
        palette: label → colour; others are not drawn.
        size: width and height in pixels.
    """
    picture = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB"), float)
    if labels is not None:
        enlarged = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        outline = _outline(enlarged)
        for label, colour in palette.items():
            mask = enlarged == label
            opacity = np.where(outline, 1.0, 0.4)[mask][:, None]
            picture[mask] = (1 - opacity) * picture[mask] + opacity * 255 * np.array(to_rgb(colour))
    return Image.fromarray(picture.round().astype(np.uint8))


def _outline(labels: Volume) -> NDArray[np.bool_]:
    """Pixels beside another label."""
    outline = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            outline |= np.roll(labels, step, axis) != labels
    return outline

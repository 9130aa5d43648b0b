"""Still pictures of a case: three planes of image, reference, predictions and differences, as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from missu_nnunet.evaluation.overlays import COLOURS, DIFFERENCES
from missu_nnunet.report.cases import CaseVolumes, Volume

IGNORED = "#9A9A9A"
"""The colour of the ignore label."""

_SIDE = 260  # pixels of the longer side
_MISSED, _EXTRA, _CONFUSED, _IGNORED = 1, 2, 3, 4


@dataclass(frozen=True)
class Picture:
    """A slice: a PNG as data URI, its size on the page in pixels, and what it shows, in words."""

    uri: str
    width: int
    height: int
    alternative: str


@dataclass(frozen=True)
class PlaneRow:
    """The pictures of one plane: image, reference, and of each arm the prediction and its difference."""

    plane: str
    slice: int
    pictures: list[Picture]


def class_colours(labels: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """class or region → its colour."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(labels)}


def label_colours(labels: Mapping[str, Sequence[int]], ignore: int | None) -> dict[int, str]:
    """label → its colour: that of the smallest region it belongs to."""
    colours = class_colours(labels)
    found = {} if ignore is None else {ignore: IGNORED}
    for name in sorted(labels, key=lambda name: len(labels[name]), reverse=True):
        found |= dict.fromkeys(labels[name], colours[name])
    return found


def difference_map(reference: Volume, prediction: Volume, ignore: int | None) -> Volume:
    """1 where the prediction missed something, 2 where it has too much, 3 where it took one class for another."""
    wrong = reference != prediction
    difference = np.zeros(reference.shape, np.uint8)
    difference[wrong & (prediction == 0)] = _MISSED
    difference[wrong & (reference == 0)] = _EXTRA
    difference[wrong & (reference != 0) & (prediction != 0)] = _CONFUSED
    if ignore is not None:
        difference[reference == ignore] = _IGNORED
    return difference


def difference_colours() -> dict[int, str]:
    """The colours of :func:`difference_map`'s values."""
    missed, extra, confused = DIFFERENCES.values()
    return {_MISSED: missed, _EXTRA: extra, _CONFUSED: confused, _IGNORED: IGNORED}


def plane_rows(
    case: str, volumes: CaseVolumes, labels: Mapping[str, Sequence[int]], ignore: int | None
) -> list[PlaneRow]:
    """Pictures of three planes, of a 2D case one; each goes through the slice that shows most of the reference."""
    colours, differences = label_colours(labels, ignore), difference_colours()
    background = next(iter(volumes.channels.values()), np.full_like(volumes.reference, 50))
    columns: list[tuple[str, Volume | None, dict[int, str]]] = [
        ("image", None, {}),
        ("reference", volumes.reference, colours),
    ]
    for arm, prediction in volumes.predictions.items():
        columns += [
            (f"prediction of {arm}", prediction, colours),
            (f"difference of {arm}", difference_map(volumes.reference, prediction, ignore), differences),
        ]
    rows = []
    for axis, plane in enumerate(("axial", "coronal", "sagittal") if len(volumes.reference) > 1 else ("image",)):
        index = _fullest_slice(volumes.reference, axis, ignore)
        spacing = tuple(size for other, size in enumerate(volumes.spacing) if other != axis)
        pictures = []
        for title, overlay, palette in columns:
            labels_of_plane = None if overlay is None else _plane(overlay, axis, index)
            image = _draw(_plane(background, axis, index), labels_of_plane, palette, spacing)
            alternative = f"{case}, {plane} slice {index + 1}: {title}"
            pictures.append(Picture(_data_uri(image), image.width, image.height, alternative))
        rows.append(PlaneRow(plane, index, pictures))
    return rows


def _fullest_slice(reference: Volume, axis: int, ignore: int | None) -> int:
    """The slice with the largest shares of all labels; the middle one where there is no label."""
    others = tuple(other for other in range(3) if other != axis)
    labels = [label for label in np.unique(reference) if label not in (0, ignore)]
    if not labels:
        return reference.shape[axis] // 2
    profiles = [(reference == label).sum(axis=others) for label in labels]
    return int(np.argmax(sum(profile / profile.sum() for profile in profiles)))


def _plane(volume: Volume, axis: int, index: int) -> Volume:
    """A slice as it is looked at: anterior or superior up."""
    plane = np.take(volume, index, axis)
    return plane if axis == 0 else plane[::-1]


def _draw(grey: Volume, labels: Volume | None, palette: Mapping[int, str], spacing: Sequence[float]) -> Image.Image:
    height, width = grey.shape[0] * spacing[0], grey.shape[1] * spacing[1]
    scale = _SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
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
    """Pixels beside another label, inside."""
    outline = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            outline |= np.roll(labels, step, axis) != labels
    return outline


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.quantize(192, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

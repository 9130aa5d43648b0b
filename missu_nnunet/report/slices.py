"""Still pictures of a case: three planes of image, reference, predictions and differences, as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from missu_nnunet.evaluation.overlays import DIFFERENCES
from missu_nnunet.evaluation.slices import (
    IGNORED,
    PLANES,
    Volume,
    coloured,
    cut,
    fullest_slice,
    label_colours,
    size_in_pixels,
)
from missu_nnunet.report.cases import CaseVolumes

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
    for axis, plane in enumerate(PLANES if len(volumes.reference) > 1 else ("image",)):
        index = fullest_slice(volumes.reference, axis, ignore)
        spacing = tuple(size for other, size in enumerate(volumes.spacing) if other != axis)
        grey = cut(background, axis, index)
        pictures = []
        for title, overlay, palette in columns:
            labels_of_plane = None if overlay is None else cut(overlay, axis, index)
            image = coloured(grey, labels_of_plane, palette, size_in_pixels(grey, spacing, _SIDE))
            alternative = f"{case}, {plane} slice {index + 1}: {title}"
            pictures.append(Picture(_data_uri(image), image.width, image.height, alternative))
        rows.append(PlaneRow(plane, index, pictures))
    return rows


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.quantize(192, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

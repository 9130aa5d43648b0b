"""Still pictures of a case: planes of image, reference, predictions and differences, as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from missu_nnunet.pictures.colours import label_colours
from missu_nnunet.pictures.views import views
from missu_nnunet.report.cases import CaseVolumes

_SIDE = 260  # pixels of the longer side


@dataclass(frozen=True)
class Picture:
    """A picture of a slice: a PNG as data URI, its size on the page in pixels, and what it shows in words."""

    uri: str
    width: int
    height: int
    alternative: str


@dataclass(frozen=True)
class PictureRow:
    """The pictures of one slice: the image, the reference, and the prediction and difference of each arm."""

    title: str
    pictures: list[Picture]


def picture_rows(
    case: str, volumes: CaseVolumes, labels: Mapping[str, Sequence[int]], ignore: int | None
) -> list[PictureRow]:
    """Draw the slices that show most of the reference, on the channels that show it best.

    Args:
        case: name of the case.
        volumes: voxels of the case.
        labels: labels of each class or region.
        ignore: the ignore label, if there is one.
    """
    palette = label_colours(labels, ignore)
    reference = volumes.reference
    rows = []
    for view in views(volumes.channels, reference, volumes.geometry, palette, _SIDE, ignore):
        drawn = {"image": view.image(), "reference": view.segmentation(reference, palette)}
        for arm, prediction in volumes.predictions.items():
            drawn[f"prediction of {arm}"] = view.segmentation(prediction, palette)
            drawn[f"difference of {arm}"] = view.difference(reference, prediction, ignore)
        pictures = [
            Picture(_data_uri(image), image.width, image.height, f"{case}, {view.title}: {name}")
            for name, image in drawn.items()
        ]
        rows.append(PictureRow(view.title, pictures))
    return rows


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.quantize(192, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

"""Draws cases of a raw dataset, one below the other, as nnU-Net sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from missu_nnunet.pictures.colours import IGNORED, class_colours, label_colours
from missu_nnunet.pictures.figures import SIDE, save_figure
from missu_nnunet.pictures.orientation import orientation_code, oriented, oriented_labels
from missu_nnunet.pictures.slices import grey
from missu_nnunet.pictures.views import views


@dataclass(frozen=True)
class DatasetCase:
    """A case: its name, the image of one channel, and its labels on the same grid, if it has some."""

    name: str
    image: sitk.Image
    labels: sitk.Image | None


def save_dataset_cases(
    cases: Sequence[DatasetCase], labels: Mapping[str, Sequence[int]], title: str, output: Path
) -> None:
    """Draw three planes of each case with its labels, through the slices that show most of them.

    nnU-Net takes voxels in the file's order and does not reorient them. All cases are therefore turned as the last one,
    a case of the usual orientation, has to be turned; the marks are those of each case's own header.

    Args:
        cases: the cases to draw; the last one sets the orientation.
        labels: labels of each class or region; other labels are drawn grey.
        title: title of the picture.
        output: the PNG to write.
    """
    usual = orientation_code(cases[-1].image)
    legend, palette = class_colours(labels), label_colours(labels)
    rows = []
    for case in cases:
        values, geometry = oriented(case.image, usual)
        segmentation = oriented_labels(case.labels, usual)[0] if case.labels else np.zeros(values.shape, np.uint8)
        unknown = [int(label) for label in np.unique(segmentation) if label != 0 and label not in palette]
        if unknown:
            legend["other labels"] = IGNORED
        shown = views({"": grey(values)}, segmentation, geometry, palette | dict.fromkeys(unknown, IGNORED), SIDE)
        pictures = [view.segmentation(segmentation, palette | dict.fromkeys(unknown, IGNORED)) for view in shown]
        rows.append((f"{case.name}\n{', '.join(view.title for view in shown)}", pictures))
    columns = max((len(pictures) for _, pictures in rows))
    save_figure(rows, ("",) * columns, title, legend, output)

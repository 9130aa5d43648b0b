"""Draws a prediction: planes of the image, the segmentation and, where there is one, the uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.cm import ScalarMappable
from PIL import Image

from missu_nnunet.pictures.colours import class_colours, label_colours
from missu_nnunet.pictures.figures import SIDE, save_figure
from missu_nnunet.pictures.orientation import oriented, oriented_labels
from missu_nnunet.pictures.slices import draw_marks, grey
from missu_nnunet.pictures.views import views

_UNCERTAINTY = ScalarMappable(cmap="magma")
_UNCERTAINTY.set_clim(0, 1)


def save_prediction(
    case: str,
    channels: Mapping[str, sitk.Image],
    segmentation: sitk.Image,
    uncertainty: sitk.Image | None,
    labels: Mapping[str, Sequence[int]],
    output: Path,
) -> None:
    """Draw the slices that show most of the segmentation, on the channels that show it best.

    Args:
        case: name of the case.
        channels: image of each channel, by its name; all are on one grid.
        segmentation: the segmentation, on the images' grid.
        uncertainty: the uncertainty map, 0 to 1, on the images' grid.
        labels: labels of each class or region.
        output: the PNG to write.
    """
    predicted, geometry = oriented_labels(segmentation)
    palette = label_colours(labels)
    shown = {name: grey(oriented(image)[0]) for name, image in channels.items()}
    values = oriented(uncertainty)[0] if uncertainty else None
    rows = []
    for view in views(shown, predicted, geometry, palette, SIDE):
        pictures = [view.image(), view.segmentation(predicted, palette)]
        if values is not None:
            colours = _UNCERTAINTY.to_rgba(view.cut(values), bytes=True)[..., :3]
            picture = Image.fromarray(np.ascontiguousarray(colours)).resize(view.size, Image.Resampling.NEAREST)
            if view.marks:
                draw_marks(picture, view.marks)
            pictures.append(picture)
        rows.append((view.title, pictures))
    columns = ["image", "prediction"] + (["uncertainty"] if uncertainty else [])
    scale = (_UNCERTAINTY, "entropy: 0 sure, 1 undecided") if uncertainty else None
    save_figure(rows, columns, case, class_colours(labels), output, scale)

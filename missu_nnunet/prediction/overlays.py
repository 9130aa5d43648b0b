"""A picture of a prediction: three planes of the image, the segmentation and, where there is one, the uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from missu_nnunet.datasets.images import read_image
from missu_nnunet.evaluation.slices import (
    PLANES,
    class_colours,
    coloured,
    cut,
    fullest_slice,
    grey,
    label_colours,
    oriented,
    size_in_pixels,
    voxels,
)

_SIDE = 400  # pixels


def save_prediction_overlay(
    case: str,
    image_file: Path,
    segmentation: sitk.Image,
    uncertainty: sitk.Image | None,
    labels: Mapping[str, Sequence[int]],
    output: Path,
) -> None:
    """Draw the slices that show most of the segmentation.

    Args:
        case: its name.
        image_file: its first channel.
        segmentation: on the image's grid.
        uncertainty: likewise, 0 to 1.
        labels: the labels of each class or region.
        output: the PNG to write.
    """
    image, predicted = grey(voxels(read_image(image_file))), voxels(segmentation)
    spacing = oriented(segmentation).GetSpacing()[::-1]
    planes = PLANES if len(image) > 1 else ("image",)
    columns = ["image", "prediction"] + (["uncertainty"] if uncertainty else [])
    figure = Figure(figsize=(3.6 * len(columns), 3.3 * len(planes) + 0.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(planes), len(columns), squeeze=False)
    for axis, (row, plane) in enumerate(zip(all_axes, planes, strict=True)):
        index = fullest_slice(predicted, axis)
        background = cut(image, axis, index)
        size = size_in_pixels(background, [step for other, step in enumerate(spacing) if other != axis], _SIDE)
        row[0].imshow(coloured(background, None, {}, size))
        row[1].imshow(coloured(background, cut(predicted, axis, index), label_colours(labels), size))
        if uncertainty:
            values = cut(voxels(uncertainty), axis, index)
            # Over the picture's extent, whatever its voxels' shape.
            drawn = row[2].imshow(
                values, cmap="magma", vmin=0, vmax=1, extent=(0, size[0], size[1], 0), interpolation="nearest"
            )
        row[0].set_ylabel(plane if plane == "image" else f"{plane}, slice {index + 1}", fontsize=11)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(all_axes[0], columns, strict=True):
        axes.set_title(title, fontsize=12)
    if uncertainty:
        figure.colorbar(drawn, ax=all_axes[:, -1], shrink=0.6, label="entropy: 0 sure, 1 undecided")
    figure.suptitle(case, fontsize=14)
    handles = [Patch(color=colour, label=name) for name, colour in class_colours(labels).items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    figure.savefig(output, dpi=100)

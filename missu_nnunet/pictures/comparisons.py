"""Draws a segmentation beside its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk

from missu_nnunet.pictures.colours import DIFFERENCES, class_colours, label_colours
from missu_nnunet.pictures.figures import SIDE, save_figure
from missu_nnunet.pictures.orientation import oriented, oriented_labels
from missu_nnunet.pictures.slices import grey
from missu_nnunet.pictures.views import views


def save_comparison(
    title: str,
    channels: Mapping[str, sitk.Image],
    reference: sitk.Image,
    prediction: sitk.Image,
    labels: Mapping[str, Sequence[int]],
    scores: Mapping[str, str],
    output: Path,
) -> None:
    """Save a picture of one case: a row for each plane, with image, reference, prediction and difference.

    Each plane shows the slice with most of the reference, on the channel that shows it best.

    Args:
        title: title of the picture.
        channels: image of each channel, by its name; all are on one grid.
        reference: the reference segmentation.
        prediction: the predicted segmentation.
        labels: labels of each class or region.
        scores: text that the legend adds to the name of each class.
        output: the PNG to write.
    """
    truth, geometry = oriented_labels(reference)
    guess, _ = oriented_labels(prediction)
    palette = label_colours(labels)
    shown = {name: grey(oriented(image)[0]) for name, image in channels.items()}
    rows = [
        (
            view.title,
            [
                view.image(),
                view.segmentation(truth, palette),
                view.segmentation(guess, palette),
                view.difference(truth, guess, None),
            ],
        )
        for view in views(shown, truth, geometry, palette, SIDE)
    ]
    legend = {f"{name} {scores.get(name, '')}".rstrip(): colour for name, colour in class_colours(labels).items()}
    save_figure(rows, ("image", "reference", "prediction", "difference"), title, legend | DIFFERENCES, output)

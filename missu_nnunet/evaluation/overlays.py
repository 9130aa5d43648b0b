"""Pictures of a segmentation beside its reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.metrics import MaskPair

# After Okabe and Ito: distinct for colour-blind readers, visible on grey, and none of them a difference colour.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#0072B2", "#A6761D", "#AA4499")
DIFFERENCES = {"missed": "#FF66CC", "extra": "#D50000", "confused": "#F0E442"}
_COLUMNS = ("image", "reference", "prediction", "difference")


@dataclass(frozen=True)
class _Plane:
    """A plane of a volume in LPS orientation, array axes (z, y, x)."""

    name: str
    axis: int  # the array axis that the plane cuts
    origin: Literal["upper", "lower"]  # where row 0 is drawn, so that anterior or superior is up


_PLANES = (_Plane("axial", 0, "upper"), _Plane("coronal", 1, "lower"), _Plane("sagittal", 2, "lower"))


def save_overlay(
    image_file: Path, reference_file: Path, prediction_file: Path, labels: Mapping[str, int], output: Path
) -> None:
    """Save a picture of one case: three planes × image, reference, prediction and difference.

    Each plane goes through the slice that shows the most of all structures. The legend gives each structure's Dice.

    Args:
        image_file: One channel of the case, 3D.
        reference_file: The reference segmentation.
        prediction_file: The predicted segmentation; its name without ``.nii.gz`` is the case's name.
        labels: Value of each structure, without background.
        output: The PNG to write.

    Raises:
        InputError: A file cannot be read, is not 3D, or does not lie on the image's grid.
    """
    image, spacing = _read_lps(image_file)
    reference, prediction = _read_lps(reference_file)[0], _read_lps(prediction_file)[0]
    for file, segmentation in ((reference_file, reference), (prediction_file, prediction)):
        if segmentation.shape != image.shape:
            raise InputError(
                f"{file}: the segmentation has {segmentation.shape} voxels (z, y, x), its image {image_file} has"
                f" {image.shape}; give the image that was segmented"
            )
    dice = {name: MaskPair(prediction == value, reference == value, spacing).dice() for name, value in labels.items()}
    case = prediction_file.name.removesuffix(".nii.gz")

    # Figure rather than pyplot: no global state, no window.
    figure = Figure(figsize=(11, 9), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(_PLANES), len(_COLUMNS))
    window = tuple(np.percentile(image, (0.5, 99.5)))
    for row, plane in zip(all_axes, _PLANES, strict=True):
        index = _best_slice(reference, labels, plane.axis)
        grey, truth, guess = (np.take(volume, index, plane.axis) for volume in (image, reference, prediction))
        height, width = (size for axis, size in enumerate(spacing) if axis != plane.axis)
        for axes in row:
            axes.imshow(grey, cmap="gray", vmin=window[0], vmax=window[1], origin=plane.origin, aspect=height / width)
            axes.set(xticks=[], yticks=[])
        _draw_structures(row[1], truth, labels, plane)
        _draw_structures(row[2], guess, labels, plane)
        _draw_difference(row[3], truth, guess, plane)
        row[0].set_ylabel(f"{plane.name}, slice {index}", fontsize=11)
    for axes, column in zip(all_axes[0], _COLUMNS, strict=True):
        axes.set_title(column, fontsize=12)
    defined = [value for value in dice.values() if not np.isnan(value)]
    score = f"mean foreground Dice {np.mean(defined):.3f}" if defined else "no structure in reference or prediction"
    figure.suptitle(f"{case}: {score}", fontsize=14)
    figure.legend(
        handles=_legend(dice), loc="outside lower center", ncols=len(labels) + len(DIFFERENCES), frameon=False
    )
    figure.savefig(output, dpi=100)


def _read_lps(file: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """The voxels ``(z, y, x)`` and spacing (mm, in the same order) of a 3D image, reoriented to LPS."""
    try:
        image = sitk.ReadImage(file)
    except RuntimeError as error:
        raise InputError(f"{file}: cannot be read as an image; give a NIfTI file") from error
    if image.GetDimension() != 3:
        raise InputError(f"{file}: has {image.GetDimension()} dimensions, expected 3; give one channel of one case")
    image = sitk.DICOMOrient(image, "LPS")
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


def _best_slice(reference: np.ndarray, labels: Mapping[str, int], axis: int) -> int:
    """The slice with the largest shares of all structures; the middle one where there is no structure."""
    others = tuple(other for other in range(3) if other != axis)
    profiles = [(reference == value).sum(axis=others) for value in labels.values() if (reference == value).any()]
    if not profiles:
        return reference.shape[axis] // 2
    return int(np.argmax(sum(profile / profile.sum() for profile in profiles)))


def _draw_structures(axes: Axes, segmentation: np.ndarray, labels: Mapping[str, int], plane: _Plane) -> None:
    for number, value in enumerate(labels.values()):
        _draw_mask(axes, segmentation == value, _colour(number), plane)


def _draw_difference(axes: Axes, reference: np.ndarray, prediction: np.ndarray, plane: _Plane) -> None:
    wrong = reference != prediction
    masks = (
        wrong & (prediction == 0),
        wrong & (reference == 0),
        wrong & (reference != 0) & (prediction != 0),
    )
    for mask, colour in zip(masks, DIFFERENCES.values(), strict=True):
        _draw_mask(axes, mask, colour, plane, alpha=0.9)


def _draw_mask(axes: Axes, mask: np.ndarray, colour: str, plane: _Plane, alpha: float = 0.35) -> None:
    """Fill a mask transparently and draw its outline."""
    if not mask.any():  # nothing to outline
        return
    fill = ListedColormap([(0, 0, 0, 0), to_rgba(colour, alpha)])
    axes.imshow(mask, cmap=fill, vmin=0, vmax=1, origin=plane.origin, aspect=axes.get_aspect(), interpolation="nearest")
    axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)


def _legend(dice: Mapping[str, float]) -> list[Patch]:
    structures = [
        Patch(color=_colour(number), label=f"{name} (Dice {value:.3f})")
        for number, (name, value) in enumerate(dice.items())
    ]
    return structures + [Patch(color=colour, label=name) for name, colour in DIFFERENCES.items()]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]

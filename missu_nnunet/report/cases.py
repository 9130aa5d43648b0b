"""Chooses the cases that the page shows, and reads their volumes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from missu_nnunet.boxes import bounding_box
from missu_nnunet.datasets.images import grid_difference, read_image, share_spacing
from missu_nnunet.datasets.readers import IMAGE_ENDINGS
from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.metrics import METRICS
from missu_nnunet.evaluation.results import Results, case_means
from missu_nnunet.nnunet.folders import folder_if_set, is_dataset_name
from missu_nnunet.pictures.colours import Labels, Volume
from missu_nnunet.pictures.orientation import Geometry, oriented, oriented_labels
from missu_nnunet.pictures.slices import grey, window
from missu_nnunet.report.facts import dataset_name
from missu_nnunet.text import number

_WHOLE_VOXELS = 2_000_000  # larger volumes are cropped to what was segmented
_MARGIN = 16


@dataclass(frozen=True)
class ShownCase:
    """A case for the page, and the reasons to show it, such as "worst mean dice"."""

    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CaseVolumes:
    """The oriented voxels of a case, ``(Z, Y, X)``; of a 2D case ``(1, Y, X)``.

    Attributes:
        channels: name → grey values from 0 to 255; empty where no image was found.
        windows: name → the intensities that are shown black and white.
        reference: labels of the reference.
        predictions: arm → labels of the prediction of its first run.
        geometry: geometry of all of them.
    """

    channels: dict[str, Volume]
    windows: dict[str, tuple[float, float]]
    reference: Labels
    predictions: dict[str, Labels]
    geometry: Geometry


def choose_cases(results: Results, wanted: Sequence[str]) -> list[ShownCase]:
    """Choose the worst, the median and the best case, the one in which the arms differ most, and the wanted ones.

    Args:
        results: the scores; cases are ranked by the first metric's mean over classes and arms.
        wanted: names of further cases among them.
    """
    metric = results.metrics[0]
    names = results.cases
    arms = np.array([case_means(values) for values in results.mean_scores[metric].values()])
    means = arms.mean(axis=0)
    defined = np.flatnonzero(~np.isnan(means))
    reasons: dict[str, list[str]] = {}
    if defined.size:
        better_last = defined[
            np.argsort(means[defined] * (1 if METRICS[metric].larger_is_better else -1), kind="stable")
        ]
        of_arms = " of all arms" if len(arms) > 1 else ""
        for place, word in ((0, "worst"), (len(better_last) // 2, "median"), (-1, "best")):
            index = better_last[place]
            reasons.setdefault(names[index], []).append(f"{word} mean {metric}{of_arms} ({number(means[index], 3)})")
        if len(arms) > 1:
            spread = np.max([np.abs(first - second) for first, second in combinations(arms, 2)], axis=0)
            index = defined[np.argmax(spread[defined])]
            reasons.setdefault(names[index], []).append(
                f"largest difference of {metric} between arms ({number(spread[index], 3)})"
            )
    for name in wanted:
        reasons.setdefault(name, []).append("chosen with --case")
    return [ShownCase(name, tuple(why)) for name, why in reasons.items()]


def image_folders(results: Results) -> list[Path]:
    """List the folders in nnUNet_raw that should hold the images of the arms' datasets."""
    if not (raw := folder_if_set("nnUNet_raw")):
        return []
    names = dict.fromkeys(name for run in results.runs if (name := dataset_name(run.folder)) and is_dataset_name(name))
    return [raw / name / part for name in names for part in ("imagesTr", "imagesTs")]


def read_case(results: Results, case: str, images: Sequence[Path], channel_names: Sequence[str]) -> CaseVolumes:
    """Read a case's image, reference and predictions.

    Args:
        results: results that name the files of the case's segmentations.
        case: name of the case.
        images: folders that may hold its image, named as in nnU-Net (``case_0000.nii.gz``).
        channel_names: names of the channels on the page.

    Raises:
        InputError: if a file is unreadable, or the image's grid differs from the reference's.
    """
    reference_file = results.runs[0].files[case][1]
    reference_image = read_image(reference_file)
    channel_images = {file: read_image(file) for file in _channel_files(case, images)}
    prediction_files = {arm: run.files[case][0] for arm, run in results.first_runs.items()}
    prediction_images = {file: read_image(file) for file in prediction_files.values()}
    share_spacing({reference_file: reference_image} | channel_images | prediction_images)
    channels, windows = {}, {}
    for index, (file, image) in enumerate(channel_images.items()):
        if difference := grid_difference(image, reference_image):
            raise InputError(f"{file}: {difference} of image and reference differ; name other --images FOLDER")
        name = channel_names[index] if index < len(channel_names) else f"channel {index}"
        values, _ = oriented(image)
        channels[name], windows[name] = grey(values), window(values)
    reference, geometry = oriented_labels(reference_image)
    predictions = {arm: oriented_labels(prediction_images[file])[0] for arm, file in prediction_files.items()}
    box = _box([reference, *predictions.values()])
    return CaseVolumes(
        channels={name: channel[box] for name, channel in channels.items()},
        windows=windows,
        reference=reference[box],
        predictions={arm: prediction[box] for arm, prediction in predictions.items()},
        geometry=geometry.cropped(box),
    )


def _channel_files(case: str, folders: Sequence[Path]) -> list[Path]:
    """The case's channels, in the first folder that has them."""
    for folder in folders:
        files = [folder / f"{case}_0000{ending}" for ending in IMAGE_ENDINGS]
        if found := [file for file in files if file.is_file()]:
            ending = found[0].name.removeprefix(f"{case}_0000")
            return sorted(folder.glob(f"{glob.escape(case)}_[0-9][0-9][0-9][0-9]{ending}"))
    return []


def _box(segmentations: Sequence[NDArray[Any]]) -> tuple[slice, ...]:
    """All of a small volume; of a large one what is segmented and some voxels around it."""
    occupied = np.logical_or.reduce([segmentation != 0 for segmentation in segmentations])
    whole = (slice(None),) * occupied.ndim
    return whole if occupied.size <= _WHOLE_VOXELS else bounding_box(occupied, _MARGIN) or whole

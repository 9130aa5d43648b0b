"""Scores a folder of predicted segmentations against a folder of references."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from missu_nnunet.datasets.images import (
    FILE_ENDINGS,
    grid_difference,
    read_label_map,
    refuse_unknown_labels,
    share_spacing,
)
from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.mask_pair import MaskPair
from missu_nnunet.evaluation.protocols import Classes, Protocol
from missu_nnunet.nnunet.dataset import RawDataset
from missu_nnunet.parallel import map_cases
from missu_nnunet.text import some

Scores = dict[str, dict[str, float]]
"""class → metric → value, of one case"""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a folder.

    Attributes:
        protocol: protocol whose conventions were followed.
        metrics: names of the metrics.
        tolerance: tolerance of the metric "nsd" in mm.
        classes: labels of each class or region that was scored.
        cases: scores of each case.
    """

    protocol: Protocol
    metrics: tuple[str, ...]
    tolerance: float
    classes: Classes
    cases: dict[str, Scores]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Summarise the cases with a value: class → metric → "mean", "std" (of the population), "median" and "n"."""
        return {
            name: {
                metric: statistics([scores[name][metric] for scores in self.cases.values()]) for metric in self.metrics
            }
            for name in self.classes
        }

    def foreground_mean(self) -> dict[str, float]:
        """Average each metric over the means of the classes that have one, as nnU-Net's ``summary.json`` does."""
        summary = self.summary()
        return {
            metric: statistics([summary[name][metric]["mean"] for name in self.classes])["mean"]
            for metric in self.metrics
        }

    def content(self) -> dict[str, Any]:
        """Return everything, per case and summarised; undefined values are NaN."""
        return {
            "protocol": self.protocol.name,
            "nsd_tolerance_mm": self.tolerance,
            "classes": {name: list(labels) for name, labels in self.classes.items()},
            "foreground_mean": self.foreground_mean(),
            "summary": self.summary(),
            "cases": self.cases,
        }

    def rows(self) -> list[dict[str, object]]:
        """Return the scores as rows, one for each case and class; undefined values are NaN."""
        return [
            {"case": case, "class": name, **values}
            for case, scores in self.cases.items()
            for name, values in scores.items()
        ]


def evaluate_folders(
    predictions: Path,
    references: Path,
    protocol: Protocol,
    *,
    dataset: RawDataset | None = None,
    metrics: Sequence[str] = (),
    tolerance: float = 1.0,
    chill: bool = False,
    workers: int = 1,
) -> Evaluation:
    """Score every case of ``references`` by the prediction of the same file name.

    Args:
        predictions: folder of the predicted segmentations.
        references: folder of the reference segmentations.
        protocol: protocol whose conventions and, without a dataset, classes are used; nnU-Net's protocol then takes the
            labels that it finds.
        dataset: dataset whose classes, regions and ignore label are used.
        metrics: names of the metrics to compute; where it is empty, those that the protocol reports.
        tolerance: tolerance of the metric "nsd" in mm.
        chill: whether missing predictions are allowed, as with nnU-Net's option of this name.
        workers: number of processes.

    Raises:
        InputError: if a case is missing or there twice, a label is unknown, prediction and reference lie on different
            grids, or the dataset has no class.
    """
    if dataset and not dataset.regions:
        raise InputError(f"{dataset.file}: no class but the background, expected some; name another with --dataset")
    names = _pair_names(predictions, references, dataset.file_ending if dataset else None, chill)
    if dataset:
        classes: Classes = dataset.regions
    elif protocol.classes:
        classes = protocol.classes
    else:
        classes = _labels_found([references / name for name in names], workers)
    metrics = tuple(metrics) or protocol.metrics
    score = partial(
        _score_case,
        predictions=predictions,
        references=references,
        protocol=protocol,
        classes=classes,
        dataset=dataset,
        metrics=metrics,
        tolerance=tolerance,
    )
    results = map_cases(score, names, workers, "evaluating")
    cases = {}
    for name, result in zip(names, results, strict=True):
        if isinstance(result, InputError):
            raise result
        cases[stem(name)] = result
    return Evaluation(protocol, metrics, tolerance, classes, cases)


def segmentations(folder: Path, endings: tuple[str, ...]) -> set[str]:
    """List the names of the segmentations in a folder.

    Args:
        folder: the folder.
        endings: their file endings.

    Raises:
        InputError: if there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one of segmentations")
    found = {file.name for file in folder.iterdir() if file.name.endswith(endings) and file.name[0] != "."}
    if not found:
        raise InputError(
            f"{folder}: no segmentation found, expected files ending in {' or '.join(endings)}; finish the validation "
            "or prediction first, or name the dataset of files with another ending with --dataset"
        )
    return found


def _pair_names(predictions: Path, references: Path, file_ending: str | None, chill: bool) -> list[str]:
    """The file names to score."""
    endings = (file_ending,) if file_ending else FILE_ENDINGS
    found = {folder: segmentations(folder, endings) for folder in (predictions, references)}
    if missing := sorted(found[predictions] - found[references]):
        raise InputError(
            f"{references}: no reference for {some(missing)}, present in {predictions}; add it or remove that"
        )
    if not chill and (missing := sorted(found[references] - found[predictions])):
        raise InputError(
            f"{predictions}: no prediction for {some(missing)}, which is in {references}; predict it, or score only "
            "what is there with --chill"
        )
    names = sorted(found[predictions])
    files_of = Counter(stem(name) for name in names)
    if twice := [name for name in names if files_of[stem(name)] > 1]:
        raise InputError(f"{predictions}: {some(twice)} are of one case, expected one file for each; remove the others")
    return names


def _labels_found(paths: list[Path], workers: int) -> Classes:
    labels: set[int] = set()
    for result in map_cases(_labels, paths, workers, "reading labels"):
        if isinstance(result, InputError):
            raise result
        labels |= result
    return {str(label): (label,) for label in sorted(labels - {0})}


def _labels(path: Path) -> set[int]:
    return {int(label) for label in np.unique(sitk.GetArrayFromImage(read_label_map(path)))}


def _score_case(
    name: str,
    *,
    predictions: Path,
    references: Path,
    protocol: Protocol,
    classes: Classes,
    dataset: RawDataset | None,
    metrics: tuple[str, ...],
    tolerance: float,
) -> Scores:
    prediction_image, reference_image = read_label_map(predictions / name), read_label_map(references / name)
    share_spacing({predictions / name: prediction_image, references / name: reference_image})
    if difference := grid_difference(prediction_image, reference_image):
        raise InputError(
            f"{predictions / name}: {difference} of prediction and reference differ; resample the prediction to the "
            f"reference's grid ({references / name})"
        )
    prediction, reference = (sitk.GetArrayFromImage(image) for image in (prediction_image, reference_image))
    ignore = dataset.ignore if dataset else None
    known = {0, *(label for labels in classes.values() for label in labels)}
    named = f"another dataset than {dataset.file}" if dataset else "the dataset that the labels belong to"
    remedy = f"name {named} with --dataset, or convert the file"
    refuse_unknown_labels(predictions / name, prediction, known, remedy)
    refuse_unknown_labels(references / name, reference, known if ignore is None else known | {ignore}, remedy)
    valid = None if ignore is None else reference != ignore
    spacing = reference_image.GetSpacing()[::-1]
    return {
        region: protocol.score(
            MaskPair(
                np.isin(prediction, labels), np.isin(reference, labels), spacing, protocol.outside_is_foreground, valid
            ),
            metrics,
            tolerance,
        )
        for region, labels in classes.items()
    }


def statistics(values: Iterable[float]) -> dict[str, float]:
    """Summarise the defined values by "mean", "std" (of the population), "median" and "n"."""
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return {"mean": math.nan, "std": math.nan, "median": math.nan, "n": 0}
    return {
        "mean": float(np.mean(defined)),
        "std": float(np.std(defined)),
        "median": float(np.median(defined)),
        "n": len(defined),
    }


def stem(name: str) -> str:
    """Return the name of the case that a segmentation's file name stands for."""
    return next(name.removesuffix(ending) for ending in (*FILE_ENDINGS, Path(name).suffix) if name.endswith(ending))

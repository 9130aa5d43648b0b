"""``summary.json``: nnU-Net's scores of a folder of segmentations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from missu_nnunet.errors import InputError
from missu_nnunet.structures import FilePath, Structure, read_structure

SUMMARY_FILE = "summary.json"


class _Mean(Structure):
    """The means over the foreground; NaN where nothing could be scored."""

    Dice: float


class _Means(Structure):
    """What is used of a summary to see how good a fold is."""

    foreground_mean: _Mean


class _ReferencedCase(Structure):
    """Where a case's reference lies."""

    reference_file: FilePath


class _References(Structure):
    """What is used of a summary to find the references."""

    metric_per_case: Annotated[list[_ReferencedCase], Field(min_length=1)]


class _LabelScores(Structure):
    """The scores of one label."""

    Dice: float


class _ScoredCase(Structure):
    """The scores of a case, by label."""

    prediction_file: FilePath
    metrics: dict[str, _LabelScores]


class _Scores(Structure):
    """What is used of a summary to show each case."""

    metric_per_case: list[_ScoredCase]


def mean_dice(summary: Path) -> float | None:
    """Read nnU-Net's mean foreground Dice; None where the file is missing or incomplete."""
    try:
        return read_structure(summary, _Means, "").foreground_mean.Dice
    except InputError:
        return None


def references_of(segmentations: Path) -> Path:
    """Find the folder of references that the ``summary.json`` beside segmentations names.

    Raises:
        InputError: if there is no such file, or it names no existing references.
    """
    path = segmentations / SUMMARY_FILE
    if not path.exists():
        raise InputError(
            f"{path}: no such file, which would name the references; finish the validation or give --reference FOLDER"
        )
    remedy = "it does not name a reference as nnU-Net's do; give --reference FOLDER"
    folder = Path(read_structure(path, _References, remedy).metric_per_case[0].reference_file).parent
    if not folder.is_dir():
        raise InputError(f"{path}: names references in {folder}, which is not there; give --reference FOLDER")
    return folder


def dice_of_cases(summary: Path, classes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, float]]:
    """Read the Dice of each class or region in each case: case → name → Dice, NaN where there was nothing to score.

    Args:
        summary: the file.
        classes: labels of each class or region, by its name.

    Raises:
        InputError: if the file is missing, or does not hold nnU-Net's scores of these classes.
    """
    remedy = "score the segmentations again: nnUNetv2_train … --val for a fold's, nnUNetv2_evaluate_folder for others"
    cases = read_structure(summary, _Scores, remedy).metric_per_case
    try:
        return {
            Path(case.prediction_file).name.removesuffix(".nii.gz"): {
                name: scores[tuple(map(str, labels))].Dice for name, labels in classes.items()
            }
            for case in cases
            for scores in ({_labels(key): value for key, value in case.metrics.items()},)
        }
    except KeyError as error:
        raise InputError(f"{summary}: a case has no scores of label {', '.join(error.args[0])}; {remedy}") from None


def _labels(key: str) -> tuple[str, ...]:
    """The labels that a key of nnU-Net's names: "2" of a class, "(2,)" of a region of one, "(1, 2)" of several."""
    return tuple(re.findall(r"\d+", key))

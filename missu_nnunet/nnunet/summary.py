"""``summary.json``: nnU-Net's scores of a folder of segmentations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from missu_nnunet.errors import InputError


def mean_dice(summary: Path) -> float | None:
    """nnU-Net's mean foreground Dice; None if the file is not there or not whole."""
    try:
        return float(json.loads(summary.read_text())["foreground_mean"]["Dice"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def references_of(segmentations: Path) -> Path:
    """The folder of references that the ``summary.json`` beside segmentations names.

    Raises:
        InputError: there is none, or it names no references that are there.
    """
    path = segmentations / "summary.json"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, which would name the references; finish the validation or give --reference FOLDER"
        )
    try:
        folder = Path(json.loads(path.read_text(encoding="utf-8"))["metric_per_case"][0]["reference_file"]).parent
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}: does not name a reference, expected nnU-Net's metric_per_case; give --reference FOLDER"
        ) from error
    if not folder.is_dir():
        raise InputError(f"{path}: names references in {folder}, which is not there; give --reference FOLDER")
    return folder


def dice_of_cases(summary: Path, labels: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """The Dice of each label in each case: case → the label's name → Dice.

    Args:
        summary: the file.
        labels: each label's name and value.
    """
    cases = json.loads(summary.read_text(encoding="utf-8"))["metric_per_case"]
    return {
        Path(case["prediction_file"]).name.removesuffix(".nii.gz"): {
            name: case["metrics"][str(value)]["Dice"] for name, value in labels.items()
        }
        for case in cases
    }

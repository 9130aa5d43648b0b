"""A trained model's folder: the plans and the ``dataset.json`` that nnU-Net copies into it, and its folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from missu_nnunet.files import read_json
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.fold import Fold

PLANS_FILE = "plans.json"

_REMEDY = "give a trained model's folder, Trainer__Plans__configuration in nnUNet_results"


def read_model_plans(folder: Path) -> dict[str, Any]:
    """Read the plans of a trained model.

    Raises:
        InputError: if the folder has none.
    """
    return read_json(folder / PLANS_FILE, _REMEDY)


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the plans and the ``dataset.json`` of a trained model, and check the names in them.

    Raises:
        InputError: if a file is missing, or names something that does not belong there (``names.check_names``).
    """
    from missu_nnunet.nnunet.names import check_names  # loads torch, which scores do not need

    plans, dataset_json = read_model_plans(folder), read_json(folder / DATASET_FILE, _REMEDY)
    check_names(plans, str(folder / PLANS_FILE))
    check_names(dataset_json, str(folder / DATASET_FILE))
    return plans, dataset_json


def folds_of(model: Path) -> list[Fold]:
    """The folds of a trained model, by their numbers.

    The fold ``all`` is none of them, as in nnU-Net: it validates on the cases that it trains on.
    """
    folds = [Fold(folder) for folder in model.glob("fold_*") if folder.is_dir()]
    return sorted((fold for fold in folds if fold.name.isdecimal()), key=lambda fold: int(fold.name))


def folds_with(model: Path, checkpoint: str) -> list[Fold]:
    """The folds that predict together: those by their numbers that have the checkpoint, or else ``all``.

    Args:
        model: the model's folder.
        checkpoint: name of the checkpoints' files.
    """

    def there(folds: list[Fold]) -> list[Fold]:
        return [fold for fold in folds if (fold.folder / checkpoint).is_file()]

    return there(folds_of(model)) or there([Fold.of(model, "all")])


def find_description(name: str, folder: Path) -> Path | None:
    """Find the ``plans.json`` or ``dataset.json`` that belongs to a model, a fold, or a folder of segmentations.

    nnU-Net puts both into a model's folder, two floors above a fold's validation, and beside predictions.

    Args:
        name: ``PLANS_FILE`` or ``DATASET_FILE``.
        folder: the model's, the fold's, its validation's or the predictions' folder.
    """
    places = (folder.resolve(), *folder.resolve().parents[:2])
    return next((place / name for place in places if (place / name).is_file()), None)

"""nnU-Net's three folders, and the names of the models in them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from missu_nnunet.errors import InputError

Variable = Literal["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"]

_SEED = "seed_"
"""What the name of the folder of a seed's results begins with."""

VARIABLES: tuple[Variable, ...] = get_args(Variable)
"""The environment variables that name nnU-Net's folders."""

CROSSVAL_RESULTS = "crossval_results_folds_"
"""The start of the names of a model's folders of accumulated folds; the folds' numbers follow, as in ``0_1_2``."""


def folder_if_set(variable: Variable) -> Path | None:
    """Return the folder that an environment variable names, which need not exist; None where it is not set."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def nnunet_folder(variable: Variable) -> Path:
    """Return the folder that an environment variable names, which need not exist.

    Raises:
        InputError: if the variable is not set.
    """
    folder = folder_if_set(variable)
    if folder is None:
        raise InputError(f"{variable} is not set: export {variable}=FOLDER, the one that nnU-Net uses")
    return folder


def results_folder(seed: int | None) -> Path:
    """The folder that nnUNet_results names, or that in it which stands in its place for the trainings of one seed.

    Args:
        seed: the seed; None of trainings without one.

    Raises:
        InputError: if nnUNet_results is not set.
    """
    results = nnunet_folder("nnUNet_results")
    return results if seed is None else results / f"{_SEED}{seed}"


def seed_of(results: Path) -> int | None:
    """The seed whose trainings a folder of results holds, by its name; None where it is not one of ``results_folder``.

    Args:
        results: a folder that stands in the place of nnUNet_results.
    """
    match = re.fullmatch(_SEED + r"(0|[1-9][0-9]{0,2})", results.name)
    return int(match[1]) if match else None


def seeds_there() -> list[int]:
    """The seeds that have a folder in nnUNet_results."""
    return sorted(seed for folder in nnunet_folder("nnUNet_results").glob("*") if (seed := seed_of(folder)) is not None)


def is_dataset_name(text: str) -> bool:
    """Whether a text can be a dataset's ID ("4") or full name ("Dataset004_Hippocampus")."""
    return re.fullmatch(r"[0-9]{1,3}|Dataset[0-9]{3}_[^/\0]{1,240}", text) is not None


def dataset_folders(parent: Path, dataset: str) -> list[Path]:
    """Find the folders of a dataset in one of nnU-Net's folders: several may share an ID, and other texts have none.

    Args:
        parent: one of nnU-Net's three folders.
        dataset: an ID or a full name.
    """
    if not is_dataset_name(dataset):
        return []
    if dataset.isdecimal():
        return sorted(folder for folder in parent.glob(f"Dataset{int(dataset):03d}_*") if folder.is_dir())
    return [parent / dataset] if (parent / dataset).is_dir() else []


@dataclass(frozen=True)
class Model:
    """The three names in the name of a trained model's folder: ``Trainer__Plans__configuration``."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return f"{self.trainer}__{self.plans}__{self.configuration}"

    @classmethod
    def of(cls, folder: Path) -> Model | None:
        """Return the model whose folder has this name; None where the name is not a model's."""
        parts = folder.name.split("__")
        return cls(*parts) if len(parts) == 3 else None

    def folder(self, dataset: str, seed: int | None = None) -> Path:
        """Return the folder in which nnU-Net keeps this model of a dataset.

        Args:
            dataset: the dataset's full name, such as ``Dataset004_Hippocampus``.
            seed: the seed, see ``results_folder``.

        Raises:
            InputError: if nnUNet_results is not set.
        """
        return results_folder(seed) / dataset / str(self)


def model_folder(folder: Path) -> Path:
    """Return the trained model's folder that ``folder`` is or lies in, or else ``folder`` itself."""
    return next((path for path in (folder, *folder.parents) if Model.of(path)), folder)

"""nnU-Net's way to name a model on the command line: ``-d``, ``-tr``, ``-p``, ``-c``, and folds with spaces between."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from missu_nnunet.errors import InputError


class FoldsBySpaces(TyperCommand):
    """A command that takes ``-f 0 1 2`` as ``-f 0,1,2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the folds, and parse."""
        return super().parse_args(ctx, join_folds(args))


def join_folds(arguments: list[str]) -> list[str]:
    """Join the numbers behind ``-f`` or ``--folds`` to one word."""
    joined: list[str] = []
    for argument in arguments:
        if len(joined) > 1 and joined[-2] in ("-f", "--folds") and re.fullmatch(r"\d+|all", argument):
            joined[-1] += f",{argument}"
        else:
            joined.append(argument)
    return joined


def find_model(dataset: str, trainer: str, plans: str, configuration: str | None) -> Path:
    """Find a trained model's folder in nnUNet_results.

    Args:
        dataset: name or ID of the dataset.
        trainer: name of the trainer.
        plans: name of the plans.
        configuration: configuration of the plans; it must be given.

    Raises:
        InputError: if there is no such model, or no configuration is given.
    """
    from missu_nnunet.nnunet.folders import Model, dataset_folders, nnunet_folder

    results = nnunet_folder("nnUNet_results")
    if configuration is None:
        raise InputError(f"-d {dataset}: expected the configuration too, such as -c 3d_fullres")
    folders = dataset_folders(results, dataset)
    if not folders:
        raise InputError(f"-d {dataset}: no such dataset in {results}; give the name or ID of one with a trained model")
    name = str(Model(trainer, plans, configuration))
    found = [folder / name for folder in folders if (folder / name).is_dir()]
    if len(found) != 1:
        there = ", ".join(sorted(path.name for folder in folders for path in folder.glob("*__*__*"))) or "none"
        raise InputError(f"{folders[0] / name}: no such model, found {there}; give -tr, -p and -c of one of them")
    return found[0]

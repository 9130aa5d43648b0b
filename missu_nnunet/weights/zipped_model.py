"""Opens trained models that ``nnUNetv2_export_model_to_zip`` has packed."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.folders import Model
from missu_nnunet.nnunet.model import PLANS_FILE
from missu_nnunet.weights.inspection import inspect_file

_WANTED = (".pth", ".json")
"""The files that a prediction needs; ``postprocessing.json`` says the same as ``postprocessing.pkl``."""


@contextmanager
def model_folder(model: Path, configuration: str | None = None) -> Iterator[Path]:
    """Give a trained model's folder: the model itself, or a temporary folder for a zip, which is checked first.

    Args:
        model: folder or zip of the model.
        configuration: configuration of the model, to choose from a zip that holds several.

    Raises:
        InputError: if the zip is damaged, would run code, or does not hold exactly one such model.
    """
    if not model.is_file():
        yield model
        return
    inspect_file(model)
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(model) as archive:
        folders = {
            str(file.parent): found.configuration
            for file in map(PurePosixPath, archive.namelist())
            if file.name == PLANS_FILE and (found := Model.of(Path(file.parent)))
        }
        if not folders:
            raise InputError(
                f"{model}: no Trainer__Plans__configuration/{PLANS_FILE} in it, expected a zip of "
                "nnUNetv2_export_model_to_zip; give one, or a trained model's folder"
            )
        chosen = [folder for folder, found in folders.items() if configuration in (None, found)]
        if len(chosen) != 1:
            names = ", ".join(sorted(folders.values()))
            wanted = "a single model" if configuration is None else f"one of configuration {configuration}"
            raise InputError(f"{model}: found {names}, expected {wanted}; name one configuration with -c")
        for name in archive.namelist():
            if name.startswith(f"{chosen[0]}/") and name.endswith(_WANTED):
                archive.extract(name, temporary)
        yield Path(temporary, chosen[0])

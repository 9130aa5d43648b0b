"""Trained models in a zip of ``nnUNetv2_export_model_to_zip``."""

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
"""What a prediction needs. ``postprocessing.pkl`` is not among it: ``postprocessing.json`` says the same."""


@contextmanager
def model_folder(model: Path, configuration: str | None = None) -> Iterator[Path]:
    """A trained model's folder: ``model`` itself, or a temporary one for a zip, whose members are checked first.

    Args:
        model: a model's folder or zip.
        configuration: configuration of the model to take from a zip that holds several.

    Raises:
        InputError: if the zip is damaged, holds what would run code, or not one such model.
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
        chosen = [folder for folder, found in folders.items() if configuration in (None, found)]
        if len(chosen) != 1:
            names = ", ".join(sorted(folders.values())) or "no model's folder"
            raise InputError(f"{model}: found {names}; name one configuration with -c")
        for name in archive.namelist():
            if name.startswith(f"{chosen[0]}/") and name.endswith(_WANTED):
                archive.extract(name, temporary)
        yield Path(temporary, chosen[0])

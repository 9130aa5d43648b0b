"""Trained models in a zip of ``nnUNetv2_export_model_to_zip``."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from missu_nnunet.errors import InputError
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
        folders = {str(PurePosixPath(name).parent) for name in archive.namelist() if name.endswith("/plans.json")}
        chosen = sorted(folder for folder in folders if configuration in (None, folder.split("__")[-1]))
        if len(chosen) != 1:
            names = ", ".join(sorted(folder.split("__")[-1] for folder in folders)) or "no plans.json"
            raise InputError(f"{model}: found {names}; name one configuration with -c")
        for name in archive.namelist():
            if name.startswith(f"{chosen[0]}/") and name.endswith(_WANTED):
                archive.extract(name, temporary)
        yield Path(temporary, chosen[0])

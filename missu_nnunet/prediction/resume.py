"""Going on with a prediction that was interrupted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from missu_nnunet.errors import InputError
from missu_nnunet.files import make_folder, read_json, write_json

FILE = "missu_predict.json"
"""What a folder of predictions says of the settings that they were made with."""


def begin(output: Path, settings: dict[str, Any]) -> None:
    """Write down the settings, before the first case.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(output)
    write_json(settings, output / FILE)


def finished_cases(output: Path, settings: dict[str, Any], cases: Iterable[str], file_ending: str) -> set[str]:
    """The cases that an earlier run predicted with the same settings; the segmentation is the last file it writes.

    Raises:
        InputError: if it had other settings, or the predictions there say nothing of theirs.
    """
    found = {case for case in cases if (output / f"{case}{file_ending}").is_file()}
    if not found:
        return found
    remedy = "choose another folder, or predict all cases again without --continue"
    before = read_json(output / FILE, f"these predictions cannot be gone on with; {remedy}")
    for key, value in settings.items():
        if before.get(key) != value:
            raise InputError(f"{output}: was predicted with {key} {before.get(key)}, not {value}; {remedy}")
    return found

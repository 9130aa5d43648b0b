"""Lets an interrupted prediction go on where it stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from missu_nnunet.errors import InputError
from missu_nnunet.files import make_folder, read_json, write_json

FILE = "missu_predict.json"
"""The file in a folder of predictions that holds the settings they were made with."""


def begin(output: Path, settings: dict[str, Any]) -> None:
    """Record the settings before the first case.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(output)
    write_json(settings, output / FILE)


def finished_cases(output: Path, settings: dict[str, Any], cases: Iterable[str], file_ending: str) -> set[str]:
    """Find the cases that an earlier run has finished; a case's segmentation is the last file that is written.

    Args:
        output: folder of the predictions.
        settings: the settings of this run.
        cases: names of the cases to predict.
        file_ending: file ending of the segmentations.

    Raises:
        InputError: if the earlier run had other settings, or did not record them.
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

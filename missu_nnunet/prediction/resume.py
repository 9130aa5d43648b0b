"""Lets an interrupted prediction go on where it stopped, and keeps it off files that no prediction wrote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from missu_nnunet.errors import InputError
from missu_nnunet.files import make_folder, read_json, write_json
from missu_nnunet.structures import Structure, as_structure

FILE = "missu_predict.json"
"""The file in a folder of predictions that holds the settings they were made with, and the cases finished with them."""


class _Earlier(Structure):
    """What an earlier run has finished."""

    finished: tuple[str, ...] = ()


def check_output(output: Path, names: Iterable[str]) -> None:
    """Refuse a folder that holds files of these names which ``missu predict`` did not write, such as references.

    Args:
        output: folder of the predictions.
        names: names of the files to write.

    Raises:
        InputError: if one of them is there, and ``FILE`` is not.
    """
    if (output / FILE).is_file():
        return
    if there := [name for name in names if (output / name).exists()]:
        raise InputError(
            f"{output / there[0]}: would be overwritten, and missu predict did not write it, as there is no {FILE} "
            "beside it; choose another folder for the predictions"
        )


def record(output: Path, settings: dict[str, Any], finished: Iterable[str]) -> None:
    """Record the settings before the first case, and after each case that it is finished.

    Segmentations of other settings may lie in the folder until they are overwritten: only what is recorded counts.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(output)
    write_json({**settings, "finished": sorted(finished)}, output / FILE)


def finished_cases(output: Path, settings: dict[str, Any], file_ending: str) -> set[str]:
    """Find the cases that an earlier run has finished.

    Args:
        output: folder of the predictions.
        settings: the settings of this run.
        file_ending: file ending of the segmentations.

    Raises:
        InputError: if the earlier run had other settings.
    """
    if not (output / FILE).exists():
        return set()
    remedy = "choose another folder, or predict all cases again without --continue"
    before = read_json(output / FILE, remedy)
    finished = as_structure(before, _Earlier, str(output / FILE), remedy).finished
    found = {case for case in finished if (output / f"{case}{file_ending}").is_file()}
    if not found:
        return found
    for key, value in settings.items():
        if before.get(key) != value:
            raise InputError(f"{output}: was predicted with {key} {before.get(key)}, not {value}; {remedy}")
    return found

"""Lets an interrupted prediction go on where it stopped, and keeps it off files that no prediction wrote."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from missu_nnunet.errors import InputError
from missu_nnunet.files import make_folder, read_json, write_json
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.model import PLANS_FILE
from missu_nnunet.structures import Structure, as_structure

FILE = "missu_predict.json"
"""The file in a folder of predictions that holds the settings they were made with, and the cases finished with them."""


class _Earlier(Structure):
    """What an earlier run has finished."""

    finished: dict[str, str] = Field(default_factory=dict)


def check_output(output: Path, file_ending: str) -> None:
    """Refuse a folder of images or label maps which ``missu predict`` did not write, such as references.

    Predictions of other cases among them could be taken for references, and references be overwritten later.

    Args:
        output: folder of the predictions.
        file_ending: file ending of the segmentations.

    Raises:
        InputError: if there is such a file, or nnU-Net's description of some, and ``FILE`` is not.
    """
    if (output / FILE).is_file() or not output.is_dir():
        return
    names, files = (DATASET_FILE, PLANS_FILE), sorted(output.iterdir())
    if there := [file for file in files if file.name in names or file.name.endswith(file_ending)]:
        raise InputError(
            f"{there[0]}: missu predict did not write it, as there is no {FILE} beside it; choose another folder for "
            "the predictions, so that they are neither overwritten nor mixed up"
        )


def fingerprint(files: Iterable[Path]) -> str:
    """Compute a check sum of the files' contents, by which a change is noticed."""
    found = 0
    for file in files:
        with file.open("rb") as opened:
            while part := opened.read(2**20):
                found = zlib.crc32(part, found)
    return f"{found:08x}"


class Record:
    """What a prediction was made with, and which of its cases are finished, in a file beside the segmentations.

    Segmentations of other settings may lie in the folder until they are overwritten: only what is recorded counts.

    Args:
        output: folder of the predictions.
        settings: all that changes a segmentation, apart from the image.

    Attributes:
        finished: of each finished case the fingerprint of its images.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self._output, self._settings = output, settings
        self.finished: dict[str, str] = {}

    def resume(self, cases: Mapping[str, Sequence[Path]], file_ending: str) -> None:
        """Find the cases that an earlier run has finished; those whose images have changed since are open again.

        Args:
            cases: the images of the cases of this run.
            file_ending: file ending of the segmentations.

        Raises:
            InputError: if the earlier run had other settings.
        """
        file = self._output / FILE
        if not file.exists():
            return
        remedy = "choose another folder, or predict all cases again without --continue"
        before = read_json(file, remedy)
        finished = as_structure(before, _Earlier, str(file), remedy).finished
        found = {case: of for case, of in finished.items() if (self._output / f"{case}{file_ending}").is_file()}
        for key, value in self._settings.items():
            if found and before.get(key) != value:
                raise InputError(f"{self._output}: was predicted with {key} {before.get(key)}, not {value}; {remedy}")
        self.finished = {case: of for case, of in found.items() if case not in cases or fingerprint(cases[case]) == of}

    def write(self) -> None:
        """Write the file: before the first case, and after each one.

        Raises:
            InputError: if the folder cannot be written.
        """
        make_folder(self._output)
        write_json({**self._settings, "finished": self.finished}, self._output / FILE)

"""A fold's folder as nnU-Net leaves it: checkpoints, logs, and how far the training is."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.log import EPOCH_SECONDS, early_end, read_epochs
from missu_nnunet.nnunet.summary import SUMMARY_FILE, mean_dice
from missu_nnunet.structures import Structure, read_structure

FINAL_CHECKPOINT = "checkpoint_final.pth"
LATEST_CHECKPOINT = "checkpoint_latest.pth"

CHECKPOINTS = (FINAL_CHECKPOINT, LATEST_CHECKPOINT, "checkpoint_best.pth")
"""The names of a fold's checkpoints, in the order in which nnU-Net looks for the one to continue from."""

_DEBUG_FILE = "debug.json"


class _Debug(Structure):
    """What is used of nnU-Net's ``debug.json``, which holds all values as text."""

    num_epochs: Annotated[int, Field(ge=0, le=10**9)]


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        done: number of finished epochs.
        epochs: number of epochs in all; None where nnU-Net has not written it down yet.
        epoch_seconds: duration of the latest epoch in seconds; None before the end of the first.
    """

    done: int
    epochs: int | None
    epoch_seconds: float | None


@dataclass(frozen=True)
class Fold:
    """A fold's folder, which need not exist yet."""

    folder: Path

    @classmethod
    def of(cls, model: Path, name: str) -> Fold:
        """The fold of this number, or ``all``, in a trained model's folder."""
        return cls(model / f"fold_{name}")

    @property
    def name(self) -> str:
        """The fold's number, or ``all``."""
        return self.folder.name.removeprefix("fold_")

    @property
    def validation(self) -> Path:
        """The folder of the validation cases' segmentations."""
        return self.folder / "validation"

    @property
    def summary(self) -> Path:
        """nnU-Net's scores of the validation cases."""
        return self.validation / SUMMARY_FILE

    @property
    def final_checkpoint(self) -> Path:
        """The checkpoint of the finished training."""
        return self.folder / FINAL_CHECKPOINT

    def is_finished(self) -> bool:
        """Whether nnU-Net trained and validated the fold to the end."""
        return self.is_trained() and self.validation_dice() is not None

    def is_trained(self) -> bool:
        """Whether the training is finished, with or without its validation."""
        return _is_whole(self.final_checkpoint)

    def can_continue(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return any(_is_whole(self.folder / name) for name in CHECKPOINTS)

    def checkpoints(self) -> list[Path]:
        """List the checkpoints that exist, complete or not, in the order of ``CHECKPOINTS``."""
        return [file for name in CHECKPOINTS if (file := self.folder / name).is_file()]

    def set_broken_checkpoints_aside(self) -> list[Path]:
        """Rename incomplete checkpoints, which nnU-Net was killed in writing and could not continue from."""
        broken = [file for file in self.checkpoints() if not _is_whole(file)]
        for file in broken:
            file.replace(file.with_name(file.name + ".broken"))
        return broken

    def delete_checkpoints(self) -> None:
        """Delete all checkpoints, so that the fold's next training begins anew."""
        for name in CHECKPOINTS:
            (self.folder / name).unlink(missing_ok=True)

    def delete_scores(self) -> None:
        """Delete the scores, so that those of an earlier training do not make the next one look finished."""
        self.summary.unlink(missing_ok=True)

    def validation_dice(self) -> float | None:
        """Return the validation's mean foreground Dice; None before the validation, NaN where nothing was scored."""
        return mean_dice(self.summary)

    def debug(self) -> dict[str, Any]:
        """Return what nnU-Net recorded of the training's set-up, such as the device; empty where it cannot be read."""
        try:
            return read_json(self.folder / _DEBUG_FILE, "")
        except InputError:
            return {}

    def logs(self) -> list[Path]:
        """List the text logs of the fold's trainings, oldest first, by the time in their names."""
        return sorted(self.folder.glob("training_log*.txt"), key=lambda file: _numbers_in(file.name))

    def progress(self) -> Progress | None:
        """Say how far the latest training of the fold has come; None where there was none."""
        for lines in self._latest_logs():  # the latest one may not have reached its first epoch yet
            epochs = read_epochs(lines)
            if epochs:
                *_, last = epochs
                seconds = [values[EPOCH_SECONDS] for values in epochs.values() if EPOCH_SECONDS in values]
                return Progress(
                    done=last + (EPOCH_SECONDS in epochs[last]),
                    epochs=self._epochs(),
                    epoch_seconds=seconds[-1] if seconds else None,
                )
        return None

    def early_end(self) -> str | None:
        """Say why the latest training ended before its last epoch, as ``log.early_end`` does; None where it did not."""
        for lines in self._latest_logs():
            if (found := early_end(lines)) or read_epochs(lines):
                return found
        return None

    def _latest_logs(self) -> Iterator[list[str]]:
        """The lines of the logs, latest log first."""
        for log in reversed(self.logs()):
            yield log.read_text(encoding="utf-8", errors="replace").splitlines()

    def _epochs(self) -> int | None:
        try:
            return read_structure(self.folder / _DEBUG_FILE, _Debug, "").num_epochs
        except InputError:
            return None


def _numbers_in(name: str) -> list[int]:
    """The numbers in a name, to sort by: nnU-Net does not pad months and days."""
    return [int(number) for number in re.findall(r"\d+", name)]


def _is_whole(checkpoint: Path) -> bool:
    """Whether the file was written to its end, where a zip archive, as torch writes it, has its directory."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)

"""How far a fold's training is, read from what nnU-Net writes into the fold's folder."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""In the order in which nnU-Net looks for the one to continue from."""


def is_finished(fold: Path) -> bool:
    """Whether nnU-Net trained and validated the fold to the end."""
    return _is_whole(fold / "checkpoint_final.pth") and validation_dice(fold) is not None


def is_trained(fold: Path) -> bool:
    """Whether the training is finished, whatever became of the validation."""
    return _is_whole(fold / "checkpoint_final.pth")


def can_continue(fold: Path) -> bool:
    """Whether there is a checkpoint to continue from."""
    return any(_is_whole(fold / name) for name in _CHECKPOINTS)


def set_broken_checkpoints_aside(fold: Path) -> list[Path]:
    """Rename the checkpoints that nnU-Net was killed in writing, which it would fail to continue from."""
    broken = [fold / name for name in _CHECKPOINTS if (fold / name).exists() and not _is_whole(fold / name)]
    for file in broken:
        file.replace(file.with_name(file.name + ".broken"))
    return broken


def delete_checkpoints(fold: Path) -> None:
    """Make sure that the fold's next training begins anew."""
    for name in _CHECKPOINTS:
        (fold / name).unlink(missing_ok=True)


def delete_scores(fold: Path) -> None:
    """Make sure that the scores of an earlier training do not make the next one look finished."""
    (fold / "validation" / "summary.json").unlink(missing_ok=True)


def validation_dice(fold: Path) -> float | None:
    """Mean foreground Dice of the validation; None while there is none. NaN if nothing could be scored."""
    return mean_dice(fold / "validation" / "summary.json")


def mean_dice(summary: Path) -> float | None:
    """nnU-Net's mean foreground Dice in a ``summary.json``; None if the file is not there or not whole."""
    try:
        return float(json.loads(summary.read_text())["foreground_mean"]["Dice"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Progress:
    """Epochs done, epochs in all (None if nnU-Net has not said), and the latest epoch's seconds."""

    done: int
    epochs: int | None
    epoch_seconds: float | None


def progress(fold: Path) -> Progress | None:
    """How far the latest training of the fold came; None if there was none."""
    logs = sorted(fold.glob("training_log_*.txt"), key=lambda file: file.stat().st_mtime)
    for log in reversed(logs):  # the latest one may not have reached its first epoch yet
        text = log.read_text(errors="replace")
        started = re.findall(r"Epoch (\d+)\s*$", text, re.MULTILINE)
        if started:
            seconds = re.findall(r"Epoch time: ([\d.]+) s", text)
            last_epoch_ended = text.rfind("Epoch time:") > text.rfind(f"Epoch {started[-1]}")
            done = int(started[-1]) + last_epoch_ended
            return Progress(done, _epochs(fold), float(seconds[-1]) if seconds else None)
    return None


def _epochs(fold: Path) -> int | None:
    try:
        return int(json.loads((fold / "debug.json").read_text())["num_epochs"])
    except (OSError, ValueError, KeyError):
        return None


def _is_whole(checkpoint: Path) -> bool:
    """Whether the file was written to its end, where a zip archive, as torch writes it, has its directory."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)

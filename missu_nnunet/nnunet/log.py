"""Reads the values of the epochs out of nnU-Net's training log."""

from __future__ import annotations

import re
from collections.abc import Iterable

EPOCH = "epoch"
"""The key under which ``values_of_line`` gives the number (from 0) of the epoch that a line starts."""

EPOCH_SECONDS = "epoch_seconds"
"""The key of an ended epoch's duration in seconds."""

PSEUDO_DICE = "mean_fg_dice"
"""The key of the mean over the structures of the validation patches' Dice, as in nnU-Net's own logger."""

ENDED_EARLY = "Training ended early, after"
"""The words in the log of MISSU's trainer that the number of epochs and the reason of an early end follow."""

_NUMBER = r"(-?[\d.]+(?:e-?\d+)?|nan)"

# The keys are those of nnU-Net's logger, and of MISSU's addition to it.
_PATTERNS = {
    EPOCH: re.compile(r"Epoch (\d{1,6})\s*$"),
    EPOCH_SECONDS: re.compile(r"Epoch time: (\d{1,9}(?:\.\d*)?) s"),
    "lrs": re.compile(r"Current learning rate: (\S+)"),
    "train_losses": re.compile(r"train_loss (\S+)"),
    "val_losses": re.compile(r"val_loss (\S+)"),
    "seg_loss": re.compile(rf"loss terms:.*segmentation {_NUMBER}"),
    "aux_loss": re.compile(rf"loss terms:.*auxiliary heads {_NUMBER}"),
    "kd_loss": re.compile(rf"loss terms:.*distillation {_NUMBER}"),
}
# "0.5" or "np.float32(0.5)", as NumPy's version has it
_PSEUDO_DICE_VALUE = re.compile(r"(?<!\w)(?:nan|\d[\d.e-]*)(?=[],)])")


def values_of_line(line: str) -> dict[str, float]:
    """Read the values in a line of the log, by the keys of nnU-Net's logger, ``EPOCH`` and ``EPOCH_SECONDS``."""
    found = {key: match[1] for key, pattern in _PATTERNS.items() if (match := pattern.search(line))}
    values = {key: value for key, text in found.items() if (value := _number(text)) is not None}
    if "Pseudo dice" in line:
        dice = [value for text in _PSEUDO_DICE_VALUE.findall(line) if (value := _number(text)) is not None]
        if dice:
            values[PSEUDO_DICE] = sum(dice) / len(dice)
    return values


def early_end(lines: Iterable[str]) -> str | None:
    """Read what the log says of an early end, such as ``12 of 1000 epochs: the file stop was there``, or else None."""
    found = [line.partition(ENDED_EARLY)[2].strip() for line in lines if ENDED_EARLY in line]
    return found[-1] if found else None


def read_epochs(lines: Iterable[str]) -> dict[int, dict[str, float]]:
    """Read the values of each epoch in a log, by the epoch's number, in the order of their latest starts.

    Where a continued training repeats an epoch, the last repetition counts.
    """
    epochs: dict[int, dict[str, float]] = {}
    number = None
    for line in lines:
        values = values_of_line(line)
        if EPOCH in values:
            number = int(values.pop(EPOCH))
            epochs[number] = epochs.pop(number, {})
        if number is not None:
            epochs[number] |= values
    return epochs


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

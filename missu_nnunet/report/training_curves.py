"""Reads what nnU-Net logged in training from its checkpoints or, where none can be read, from its text logs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.fold import FINAL_CHECKPOINT, Fold
from missu_nnunet.nnunet.folders import model_folder, seed_of
from missu_nnunet.nnunet.log import read_epochs
from missu_nnunet.nnunet.model import PLANS_FILE, folds_of

CURVES = {
    "train_losses": "training loss",
    "val_losses": "validation loss",
    "seg_loss": "segmentation",
    "aux_loss": "auxiliary heads",
    "kd_loss": "distillation",
    "mean_fg_dice": "pseudo Dice",
    "ema_fg_dice": "pseudo Dice, moving average",
    "lrs": "learning rate",
}
"""Keys of nnU-Net's log and of MISSU's addition to it, and what the page calls them."""

_LONGEST_EPOCH = 1e9
"""More seconds than any epoch takes."""


@dataclass(frozen=True)
class TrainingRun:
    """The training of one fold.

    Attributes:
        fold: number of the fold.
        seed: its seed, by the folder it stands in; None without one.
        curves: key of ``CURVES`` → one value per epoch, NaN where an epoch has none.
        epoch_seconds: duration of each epoch in seconds; empty where that is unknown.
        checkpoint: what the checkpoint says apart from weights and states; empty where there is none.
        notes: sentences about what is missing.
    """

    fold: str
    seed: int | None
    curves: dict[str, list[float]]
    epoch_seconds: list[float]
    checkpoint: dict[str, Any]
    notes: list[str]

    @property
    def name(self) -> str:
        """What tells the run from the arm's others."""
        return f"fold {self.fold}" if self.seed is None else f"seed {self.seed} fold {self.fold}"

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return max((len(values) for values in self.curves.values()), default=0)


def read_training(arm: Path) -> list[TrainingRun]:
    """Read the trainings behind an arm's folder: a model's by their numbers, or ``all`` without them; a fold's own."""
    model = model_folder(arm.resolve())
    if not (model / PLANS_FILE).is_file() or model not in (arm.resolve(), *arm.resolve().parents[:2]):
        return []
    folds, of_all_cases = folds_of(model), Fold.of(model, "all")
    if of_all_cases.folder.is_dir() and (not folds or arm.resolve() != model):
        folds.append(of_all_cases)
    if arm.resolve() != model:
        folds = [fold for fold in folds if fold.folder in (arm.resolve(), *arm.resolve().parents)]
    return [_read_fold(fold) for fold in folds]


def _read_fold(fold: Fold) -> TrainingRun:
    notes = []
    seed = seed_of(fold.folder.parent.parent.parent)  # a folder at the root has fewer parents
    for file in fold.checkpoints():
        try:
            checkpoint = _describe(file)
        except InputError as error:
            notes.append(str(error))
            continue
        if file.name != FINAL_CHECKPOINT:
            notes.append(f"fold {fold.name} has no {FINAL_CHECKPOINT}: the training is not finished, or was stopped.")
        logging = checkpoint["logging"]
        curves = {key: values for key in CURVES if (values := _numbers(logging.get(key)))}
        return TrainingRun(fold.name, seed, curves, _epoch_seconds(logging), checkpoint, notes)
    logs = fold.logs()
    if not logs:
        notes.append(f"fold {fold.name} has neither checkpoint nor training log.")
        return TrainingRun(fold.name, seed, {}, [], {}, notes)
    if not notes:
        notes.append(f"fold {fold.name} has no checkpoint: its curves are those of its training log.")
    return TrainingRun(fold.name, seed, _log_curves(logs), [], {}, notes)


def _describe(file: Path) -> dict[str, Any]:
    """A checkpoint without its tensors, with the number of the network's parameters instead."""
    from missu_nnunet.nnunet.checkpoint import read_checkpoint
    from missu_nnunet.weights.inspection import parameter_count

    checkpoint = read_checkpoint(file, str(file))
    logging = checkpoint.get("logging")
    return {
        "logging": logging if isinstance(logging, dict) else {},
        "parameters": parameter_count(checkpoint["network_weights"]),
        "missu": {key: value for key, value in checkpoint.get("missu", {}).items() if key != "teacher_weights"},
    }


def _epoch_seconds(logging: dict[str, Any]) -> list[float]:
    starts, ends = (_numbers(logging.get(f"epoch_{which}_timestamps")) for which in ("start", "end"))
    seconds = (end - start for start, end in zip(starts, ends, strict=False))
    return [duration for duration in seconds if abs(duration) < _LONGEST_EPOCH]


def _numbers(values: Any) -> list[float]:
    """A list of numbers as floats; empty for anything else, which a stranger's checkpoint may hold."""
    try:
        return [float(value) for value in values] if isinstance(values, list | tuple) else []
    except (TypeError, ValueError, OverflowError):
        return []


def _log_curves(logs: list[Path]) -> dict[str, list[float]]:
    """The curves of text logs, oldest first; what a continued training repeats counts as it was in the end."""
    lines = chain.from_iterable(log.read_text(encoding="utf-8", errors="replace").splitlines() for log in logs)
    epochs = read_epochs(lines)
    found = {key: [number for number, values in epochs.items() if key in values] for key in CURVES}
    return {
        key: [epochs.get(number, {}).get(key, math.nan) for number in range(max(numbers) + 1)]
        for key, numbers in found.items()
        if numbers
    }

"""What nnU-Net logged while it trained: from its checkpoints, or from its text log where there is none to read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from missu_nnunet.demo import mean_pseudo_dice, started_epoch
from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.results import model_folder

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""In the order of preference."""

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

_TERMS = {"segmentation": "seg_loss", "auxiliary heads": "aux_loss", "distillation": "kd_loss"}
_PATTERNS = {
    "lrs": re.compile(r"Current learning rate: (\S+)"),
    "train_losses": re.compile(r"train_loss (\S+)"),
    "val_losses": re.compile(r"val_loss (\S+)"),
}
_NUMBER = r"(-?[\d.]+(?:e-?\d+)?|nan)"


@dataclass(frozen=True)
class TrainingRun:
    """The training of one fold.

    Attributes:
        fold: its folder's name, "fold_0".
        source: the file that was read; None where there was none.
        curves: key of :data:`CURVES` → one value per epoch, NaN where an epoch has none.
        epoch_seconds: how long each epoch took; empty where that is not known.
        checkpoint: what the checkpoint says about itself, without weights and states; empty without one.
        notes: sentences about what is missing.
    """

    fold: str
    source: str | None
    curves: dict[str, list[float]]
    epoch_seconds: list[float]
    checkpoint: dict[str, Any]
    notes: list[str]

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        return max((len(values) for values in self.curves.values()), default=0)


def read_training(arm: Path) -> list[TrainingRun]:
    """The trainings behind an arm's folder: of a model all folds, of a fold this one, of predictions none."""
    model = model_folder(arm.resolve())
    if not (model / "plans.json").is_file() or model not in (arm.resolve(), *arm.resolve().parents[:2]):
        return []
    folds = sorted(model.glob("fold_*"))
    if arm.resolve() != model:
        folds = [fold for fold in folds if fold == arm.resolve() or fold in arm.resolve().parents]
    return [_read_fold(fold) for fold in folds if fold.is_dir() and fold.name != "fold_all"]


def _read_fold(fold: Path) -> TrainingRun:
    notes = []
    for name in CHECKPOINTS:
        if not (fold / name).is_file():
            continue
        try:
            checkpoint = _describe(fold / name)
        except InputError as error:
            notes.append(str(error))
            continue
        if name != CHECKPOINTS[0]:
            notes.append(f"{fold.name} has no {CHECKPOINTS[0]}: the training is not finished, or was stopped.")
        logging = checkpoint["logging"]
        curves = {key: values for key in CURVES if (values := _numbers(logging.get(key)))}
        return TrainingRun(fold.name, name, curves, _epoch_seconds(logging), checkpoint, notes)
    logs = sorted(fold.glob("training_log*.txt"))
    if not logs:
        return TrainingRun(
            fold.name, None, {}, [], {}, [*notes, f"{fold.name} has neither checkpoint nor training log."]
        )
    if not notes:
        notes.append(f"{fold.name} has no checkpoint: its curves are those of its training log.")
    return TrainingRun(fold.name, logs[-1].name, _log_curves(logs), [], {}, notes)


def _describe(file: Path) -> dict[str, Any]:
    """A checkpoint without its tensors, with the number of the network's parameters instead."""
    from missu_nnunet.nnunet.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(file, str(file))
    parameters = sum(value.numel() for value in checkpoint["network_weights"].values())
    logging = checkpoint.get("logging")
    return {
        "logging": logging if isinstance(logging, dict) else {},
        "parameters": parameters,
        "missu": {key: value for key, value in checkpoint.get("missu", {}).items() if key != "teacher_weights"},
        "epochs": checkpoint.get("current_epoch"),
    }


def _epoch_seconds(logging: dict[str, Any]) -> list[float]:
    starts, ends = (_numbers(logging.get(f"epoch_{which}_timestamps")) for which in ("start", "end"))
    return [end - start for start, end in zip(starts, ends, strict=False)]


def _numbers(values: Any) -> list[float]:
    """A list of numbers as floats; empty for anything else, which a stranger's checkpoint may hold."""
    try:
        return [float(value) for value in values] if isinstance(values, list | tuple) else []
    except (TypeError, ValueError):
        return []


def _log_curves(logs: list[Path]) -> dict[str, list[float]]:
    """The curves of text logs, oldest first; what a continued training repeats counts as it was in the end."""
    found: dict[str, dict[int, float]] = {key: {} for key in CURVES}
    for log in logs:
        epoch = None
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if (started := started_epoch(line)) is not None:
                epoch = started
            if epoch is not None:
                for key, value in _values(line).items():
                    found[key][epoch] = value
    return {
        key: [values.get(epoch, math.nan) for epoch in range(max(values) + 1)]
        for key, values in found.items()
        if values
    }


def _values(line: str) -> dict[str, float]:
    """What one line of the log says."""
    dice = mean_pseudo_dice(line)
    values = {} if dice is None else {"mean_fg_dice": dice}
    for key, pattern in _PATTERNS.items():
        if match := pattern.search(line):
            values |= _number(key, match[1])
    if "loss terms:" in line:
        for name, key in _TERMS.items():
            if match := re.search(f"{name} {_NUMBER}", line):
                values |= _number(key, match[1])
    return values


def _number(key: str, text: str) -> dict[str, float]:
    try:
        return {key: float(text)}
    except ValueError:
        return {}

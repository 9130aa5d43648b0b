"""One training of an experiment: nnU-Net's own command, and what is left of it to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from missu_nnunet.experiments.events import Event, duration
from missu_nnunet.nnunet import fold as fold_state
from missu_nnunet.nnunet.command import LoggedCommand, is_locked, locked_log


@dataclass(frozen=True)
class Training:
    """One fold of one arm.

    Attributes:
        dataset: its full name, ``Dataset004_Hippocampus``.
        configuration: of the plan, ``3d_fullres``.
        trainer: what ``-tr`` takes.
        plans: what ``-p`` takes.
        fold: number of the fold.
        gpus: GPUs that the training uses; 0 trains on the CPU.
    """

    dataset: str
    configuration: str
    trainer: str
    plans: str
    fold: int
    gpus: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.trainer} {self.plans} fold {self.fold}"

    @property
    def folder(self) -> Path:
        """Where nnU-Net keeps the fold."""
        model = f"{self.trainer}__{self.plans}__{self.configuration}"
        return Path(os.environ["nnUNet_results"]) / self.dataset / model / f"fold_{self.fold}"

    @property
    def log(self) -> Path:
        """Each command of the training, and all that it printed."""
        return self.folder / "crossval.log"

    def is_finished(self) -> bool:
        """Whether nnU-Net has trained and validated it."""
        return fold_state.is_finished(self.folder)

    def is_running(self) -> bool:
        """Whether a process trains it now."""
        return is_locked(self.log)

    def command(self) -> list[str]:
        """nnU-Net's command that does what is left to do."""
        devices = ["-device", "cpu"] if self.gpus == 0 else ["-num_gpus", str(self.gpus)] if self.gpus > 1 else []
        names = ["-tr", self.trainer, "-p", self.plans]
        if fold_state.is_trained(self.folder):
            left = ["--val"]  # --c would write the final checkpoint anew, which a kill could break
        else:
            left = ["--c"] if fold_state.can_continue(self.folder) else []
        return ["nnUNetv2_train", self.dataset, self.configuration, str(self.fold), *names, *devices, *left]

    def start(self, devices: tuple[str, ...] = (), resume: bool = True) -> LoggedCommand | None:
        """Start what is left to do; None if that is nothing.

        Args:
            devices: the GPUs to use, as ``CUDA_VISIBLE_DEVICES`` names them; empty leaves the environment as it is.
            resume: whether to go on from a checkpoint where there is one; otherwise the training begins anew.

        Raises:
            BusyError: another process trains the fold.
        """
        if self.is_finished():
            return None
        with locked_log(self.log) as log:
            if self.is_finished():  # by the process that had the lock
                return None
            fold_state.set_broken_checkpoints_aside(self.folder)
            if not resume:
                fold_state.delete_checkpoints(self.folder)
            fold_state.delete_scores(self.folder)
            variables = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
            return LoggedCommand(self.command(), log, variables)


def outcome(training: Training, code: int, seconds: float) -> Event:
    """What became of a training whose command has ended."""
    if code == 0 and training.is_finished():
        return Event(training.name, "finished", f"finished in {duration(seconds)}, {dice_text(training)}")
    return Event(training.name, "failed", f"FAILED after {duration(seconds)} (exit code {code}), see {training.log}")


def dice_text(training: Training) -> str:
    """The score of a finished training."""
    return f"Dice {fold_state.validation_dice(training.folder):.4f}"

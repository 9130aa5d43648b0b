"""One training of an experiment: nnU-Net's own command, and what is left of it to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from missu_nnunet.experiments.events import Event
from missu_nnunet.hyperparameters import SEED_VARIABLE
from missu_nnunet.nnunet.command import LoggedCommand, command_line, is_locked, locked_log
from missu_nnunet.nnunet.fold import Fold
from missu_nnunet.nnunet.folders import Model, results_folder
from missu_nnunet.text import duration


@dataclass(frozen=True)
class FoldTraining:
    """The training of one fold of one arm.

    Attributes:
        dataset: its full name, ``Dataset004_Hippocampus``.
        configuration: configuration of the plan, such as ``3d_fullres``.
        trainer: trainer name, for nnU-Net's ``-tr``.
        plans: plans name, for nnU-Net's ``-p``.
        fold: number of the fold.
        gpus: GPUs that the training uses; 0 trains on the CPU.
        seed: what it starts from, and whose results folder it is in; None is a training without either.
    """

    dataset: str
    configuration: str
    trainer: str
    plans: str
    fold: int
    gpus: int
    seed: int | None = None

    @property
    def name(self) -> str:
        """Human-readable name."""
        return f"{arm_name(self.trainer, self.plans, self.seed)} fold {self.fold}"

    @property
    def folder(self) -> Path:
        """Folder in which nnU-Net keeps the fold."""
        return self.results.folder

    @property
    def results(self) -> Fold:
        """The files that nnU-Net has written for the fold so far."""
        model = Model(self.trainer, self.plans, self.configuration).folder(self.dataset, self.seed)
        return Fold.of(model, str(self.fold))

    @property
    def log(self) -> Path:
        """Each command of the training, and all that it printed."""
        return self.folder / "crossval.log"

    def is_finished(self) -> bool:
        """Whether nnU-Net has trained and validated it."""
        return self.results.is_finished()

    def is_running(self) -> bool:
        """Whether a process trains it now."""
        return is_locked(self.log)

    def command(self, resume: bool = True) -> list[str]:
        """nnU-Net's command that does what is left to do.

        Args:
            resume: whether it goes on from a checkpoint where there is one; otherwise the training begins anew.
        """
        devices = ["-device", "cpu"] if self.gpus == 0 else ["-num_gpus", str(self.gpus)] if self.gpus > 1 else []
        names = ["-tr", self.trainer, "-p", self.plans]
        left = []
        if resume:  # of a finished training --c would write the final checkpoint anew, which a kill could break
            left = ["--val"] if self.results.is_trained() else ["--c"] if self.results.can_continue() else []
        return ["nnUNetv2_train", self.dataset, self.configuration, str(self.fold), *names, *devices, *left]

    def variables(self) -> dict[str, str]:
        """The environment variables by which the command finds its seed and the seed's results."""
        return {} if self.seed is None else seed_variables(self.seed) | {SEED_VARIABLE: str(self.seed)}

    def line(self, resume: bool) -> str:
        """The command as it can be run by hand, see ``command``."""
        return command_line(self.command(resume), self.variables())

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
            self.results.set_broken_checkpoints_aside()
            if not resume:
                self.results.delete_checkpoints()
            self.results.delete_scores()
            variables = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
            return LoggedCommand(self.command(resume), log, variables | self.variables())


def arm_name(trainer: str, plans: str, seed: int | None) -> str:
    """Human-readable name of an arm, or of its trainings of one seed."""
    return f"{trainer} {plans}" + ("" if seed is None else f" seed {seed}")


def seed_variables(seed: int | None) -> dict[str, str]:
    """The environment variable by which nnU-Net's commands find the results of a seed; none without one."""
    return {} if seed is None else {"nnUNet_results": str(results_folder(seed))}


def outcome(training: FoldTraining, code: int, seconds: float) -> Event:
    """The event that says how a training ended, after its command."""
    if code == 0 and training.is_finished():
        return Event(training.name, "finished", f"finished in {duration(seconds)}, {dice_text(training)}")
    return Event(training.name, "failed", f"FAILED after {duration(seconds)} (exit code {code}), see {training.log}")


def dice_text(training: FoldTraining) -> str:
    """The score of a finished training."""
    return f"Dice {training.results.validation_dice():.4f}"

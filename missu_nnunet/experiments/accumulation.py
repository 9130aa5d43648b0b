"""nnU-Net's own accumulation of a cross-validation: all folds' validation cases in one folder, scored as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from missu_nnunet.experiments.events import Event
from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.experiments.fold_training import FoldTraining, arm_name, seed_variables
from missu_nnunet.nnunet.command import BusyError, LoggedCommand, locked_log
from missu_nnunet.nnunet.folders import CROSSVAL_RESULTS, Model
from missu_nnunet.nnunet.summary import SUMMARY_FILE, mean_dice


@dataclass(frozen=True)
class Accumulation:
    """The accumulated cross-validation of one arm, or of its trainings of one seed."""

    experiment: Experiment
    arm: Arm
    seed: int | None = None

    @property
    def name(self) -> str:
        """Human-readable name."""
        return arm_name(self.arm.trainer, self.arm.plans, self.seed)

    @property
    def folder(self) -> Path:
        """Folder into which nnU-Net puts the cases and their scores."""
        model = Model(self.arm.trainer, self.arm.plans, self.experiment.configuration)
        folds = "_".join(map(str, self.experiment.folds))
        return model.folder(self.experiment.dataset, self.seed) / f"{CROSSVAL_RESULTS}{folds}"

    @property
    def summary(self) -> Path:
        """The scores of all cases."""
        return self.folder / SUMMARY_FILE

    @property
    def log(self) -> Path:
        """All that the command printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def command(self) -> list[str]:
        """nnU-Net's command."""
        experiment = self.experiment
        names = ["-tr", self.arm.trainer, "-p", self.arm.plans]
        folds = ["-f", *map(str, experiment.folds)]
        command = "nnUNetv2_accumulate_crossval_results"
        return [command, experiment.dataset, "-c", experiment.configuration, *names, *folds]

    def missing_folds(self) -> list[int]:
        """The folds that are not finished."""
        return [training.fold for training in self._trainings() if not training.is_finished()]

    def is_finished(self) -> bool:
        """Whether the cases of the folds, as they are, have been scored as one."""
        if self.missing_folds() or mean_dice(self.summary) is None:
            return False
        folds = (training.results.summary for training in self._trainings())
        return self.summary.stat().st_mtime >= max(fold.stat().st_mtime for fold in folds)

    def _trainings(self) -> list[FoldTraining]:
        return [training for training in self.experiment.trainings_of(self.arm) if training.seed == self.seed]

    def outcome(self) -> str:
        """Mean foreground Dice over all cases, and where they are."""
        return f"Dice {mean_dice(self.summary):.4f} over all folds, in {self.folder}"

    def start(self) -> LoggedCommand:
        """Start the command, which replaces an earlier result.

        Raises:
            BusyError: another process is at it.
        """
        with locked_log(self.log) as log:
            return LoggedCommand(self.command(), log, seed_variables(self.seed))


def accumulations(experiment: Experiment) -> list[Accumulation]:
    """The accumulations of an experiment: one for each arm and seed."""
    return [Accumulation(experiment, arm, seed) for seed in experiment.seeds or (None,) for arm in experiment.arms]


def accumulate(experiment: Experiment) -> Iterator[Event]:
    """Accumulate the folds of each arm and seed, where they are finished and that is not done yet."""
    for accumulation in accumulations(experiment):
        name = accumulation.name
        if missing := accumulation.missing_folds():
            folds = ", ".join(map(str, missing))
            yield Event(name, "failed", f"no cross-validation yet, unfinished folds: {folds}")
            continue
        if accumulation.is_finished():
            yield Event(name, "skipped", f"accumulated earlier, {accumulation.outcome()}")
            continue
        try:
            command = accumulation.start()
        except BusyError as error:
            yield Event(name, "failed", f"left alone, {error}")
            continue
        yield Event(name, "started", command.line)
        code = command.wait()
        if code == 0 and accumulation.is_finished():
            yield Event(name, "finished", accumulation.outcome())
        else:
            yield Event(name, "failed", f"accumulation FAILED (exit code {code}), see {accumulation.log}")

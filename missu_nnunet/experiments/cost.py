"""What an experiment will take: time and disk, from a few timed iterations of each arm."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.experiments.fold_training import FoldTraining, seed_variables
from missu_nnunet.experiments.timing import Timing, read_timing
from missu_nnunet.machine import total_memory
from missu_nnunet.nnunet.command import LoggedCommand, locked_log
from missu_nnunet.nnunet.folders import nnunet_folder
from missu_nnunet.nnunet.preprocessed import references_folder
from missu_nnunet.nnunet.splits import Splits
from missu_nnunet.text import counted, duration, size

LOADER_BOUND = 0.2
"""A training that waits for its data longer than this share of its time is worth a word."""


@dataclass(frozen=True)
class ArmCost:
    """The time and disk space that the rest of an arm will take.

    Attributes:
        arm: trainer and plans.
        timing: measured times of the arm's iterations.
        fold_seconds: a whole training of one fold with its validation.
        left_seconds: one number for each training that is not finished.
        disk_bytes: size of all the arm's folds: two checkpoints each, and the segmentations, which accumulating copies.
    """

    arm: Arm
    timing: Timing
    fold_seconds: float
    left_seconds: tuple[float, ...]
    disk_bytes: int

    def lines(self) -> list[str]:
        """The estimate in lines of text, for the terminal."""
        timing = self.timing
        lines = [
            f"{self.arm.trainer} {self.arm.plans}: {timing.iteration_seconds:.2g} s per iteration,"
            f" {timing.epochs} epochs of {timing.iterations}: {duration(self.fold_seconds)} per fold,"
            f" {size(timing.memory_bytes)} of memory"
        ]
        if timing.waiting > LOADER_BOUND:
            lines.append(
                f"{self.arm.trainer} {self.arm.plans}: data-loader-bound, waits {timing.waiting:.0%} of its time: a"
                f" step takes {timing.step_seconds:.2g} s, a batch {timing.batch_seconds:.2g} s from"
                f" {timing.workers or 'no'} loader processes; give it more CPU cores, and nnUNet_n_proc_DA as many"
            )
        return lines


def measure_arms(experiment: Experiment, devices: tuple[str, ...], resume: bool) -> list[ArmCost | None]:
    """Time a few iterations of each arm with something left to train.

    An arm whose iterations fail is None; the log of ``timing_log`` tells more.

    Args:
        experiment: the experiment whose arms are measured.
        devices: the GPUs to use, as ``CUDA_VISIBLE_DEVICES`` names them; empty leaves the environment as it is.
        resume: whether broken trainings go on from their checkpoint.

    Raises:
        BusyError: another process is at it.
    """
    arms = [arm for arm in experiment.arms if not all(map(FoldTraining.is_finished, experiment.trainings_of(arm)))]
    splits = experiment.splits()
    timings = [(arm, _measure(experiment, arm, devices)) for arm in arms]
    return [arm_cost(experiment, arm, timing, splits, resume) if timing else None for arm, timing in timings]


def _measure(experiment: Experiment, arm: Arm, devices: tuple[str, ...]) -> Timing | None:
    names = (experiment.dataset, experiment.configuration, arm.trainer, arm.plans, str(experiment.gpus))
    # Of a cascade, the first stage's predictions are among the results of the seed.
    variables = seed_variables(experiment.seeds[0] if experiment.seeds else None)
    if devices:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    with TemporaryDirectory() as scratch:
        file = Path(scratch, "timing.json")
        line = [sys.executable, "-m", "missu_nnunet.experiments.timing", *names, str(file)]
        with locked_log(timing_log(experiment)) as log:
            command = LoggedCommand(line, log, variables)
        return read_timing(file) if command.wait() == 0 else None


def timing_log(experiment: Experiment) -> Path:
    """All that the timed iterations printed."""
    return experiment.folder / "timing.log"


def arm_cost(experiment: Experiment, arm: Arm, timing: Timing, splits: Splits, resume: bool = True) -> ArmCost:
    """What the arm's folds take, those finished apart.

    Args:
        experiment: the experiment.
        arm: one of its arms.
        timing: measured times of the arm's iterations.
        splits: the cases of each fold.
        resume: whether broken trainings go on from their checkpoint; otherwise they begin anew.
    """
    trainings = experiment.trainings_of(arm)
    cases = [len(splits[training.fold]["val"]) for training in trainings]
    # The processes that export the validation's cases import as much again.
    once = 2 * timing.start_seconds
    whole = [once + timing.epochs * timing.epoch_seconds + count * timing.case_seconds for count in cases]
    left = [
        seconds - (_epochs_done(training, timing) if resume else 0) * timing.epoch_seconds
        for training, seconds in zip(trainings, whole, strict=True)
        if not training.is_finished()
    ]
    references = list(references_folder(experiment.dataset).iterdir())
    segmentation_bytes = sum(file.stat().st_size for file in references) / max(len(references), 1)
    disk = len(trainings) * 2 * timing.checkpoint_bytes + sum(cases) * 2 * segmentation_bytes
    return ArmCost(arm, timing, sum(whole) / len(whole), tuple(left), math.ceil(disk))


def _epochs_done(training: FoldTraining, timing: Timing) -> int:
    if training.results.is_trained():
        return timing.epochs
    found = training.results.progress() if training.results.can_continue() else None
    return min(found.done, timing.epochs) if found else 0


def total(experiment: Experiment, costs: list[ArmCost], parallel: int) -> str:
    """The whole experiment's, in a line or two.

    Args:
        experiment: the experiment that the arms belong to.
        costs: the cost of each arm.
        parallel: trainings at once.
    """
    left = [seconds for cost in costs for seconds in cost.left_seconds]
    if not left:
        return "nothing left to train"
    # As run_locally does: the next training goes to the device that is free first.
    devices = [0.0] * parallel
    for seconds in left:
        devices[devices.index(min(devices))] += seconds
    disk = sum(cost.disk_bytes for cost in costs)
    free = shutil.disk_usage(nnunet_folder("nnUNet_results") / experiment.dataset).free
    return (
        f"{counted(len(left), 'training')} left, about {duration(max(devices))} with {parallel} at once;"
        f" the results will hold {size(disk)}, {size(free)} are free"
    )


def check_memory(costs: list[ArmCost], parallel: int) -> None:
    """Refuse trainings that do not fit into this machine's memory together.

    Args:
        costs: of the experiment's arms, which take turns.
        parallel: trainings at once, here.

    Raises:
        InputError: they do not fit.
    """
    at_once = min(parallel, sum(len(cost.left_seconds) for cost in costs))
    needed = at_once * sum(cost.timing.memory_bytes for cost in costs) / len(costs)
    total = total_memory()
    if total is not None and needed > total:
        raise InputError(
            f"{counted(at_once, 'training')} at once need {size(needed)} of memory, this machine has {size(total)}; "
            "name fewer GPUs with CUDA_VISIBLE_DEVICES, set nnUNet_n_proc_DA to fewer loader processes, or skip this "
            "estimate with --no-estimate"
        )


def check_disk(experiment: Experiment, costs: list[ArmCost]) -> None:
    """Refuse an experiment whose results do not fit on the disk, beside those that are there already.

    Args:
        experiment: the experiment.
        costs: of its arms.

    Raises:
        InputError: they do not fit.
    """
    folder = nnunet_folder("nnUNet_results") / experiment.dataset
    models = {training.folder.parent for cost in costs for training in experiment.trainings_of(cost.arm)}
    there = sum(file.stat().st_size for model in models for file in model.rglob("*") if file.is_file())
    needed, free = sum(cost.disk_bytes for cost in costs) - there, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: {size(free)} are free, the results need {size(needed)} more; make room there, give fewer "
            "--folds or --trainers, or skip this estimate with --no-estimate"
        )

"""An experiment's trainings on this machine, as many at once as its devices allow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.accumulation import accumulate
from missu_nnunet.experiments.cost import measure_arms
from missu_nnunet.experiments.events import Event
from missu_nnunet.experiments.experiment import Experiment
from missu_nnunet.experiments.fold_training import FoldTraining, dice_text, outcome
from missu_nnunet.experiments.launcher import Estimate, Launcher, Options
from missu_nnunet.nnunet.command import BusyError, LoggedCommand


class LocalLauncher(Launcher):
    """Runs trainings here, as many at once as there are groups of devices."""

    def __init__(self, options: Options) -> None:
        self._groups = device_groups(options.gpus)
        self.gpus = len(self._groups[0])

    def estimate(self, experiment: Experiment, resume: bool, tell: Callable[[str], None]) -> Estimate:
        """Time the arms one after the other, on the first group of devices."""
        return Estimate(measure_arms(experiment, self._groups[0], resume), len(self._groups), here=True)

    def run(self, experiment: Experiment, resume: bool) -> Generator[Event | None, None, None]:
        """Run the trainings to their ends, and accumulate."""
        with closing(run_locally(experiment.trainings(), self._groups, resume)) as trained:
            yield from trained
        yield from accumulate(experiment)

    @classmethod
    def states(cls, experiment: Experiment) -> dict[str, str]:
        """None is elsewhere: the log of one that runs here is locked."""
        return {}


LAUNCHER = LocalLauncher


def device_groups(gpus: int | None) -> list[tuple[str, ...]]:
    """The GPUs that trainings of ``gpus`` GPUs each may use at once, a group for each; an empty group is the CPU.

    Args:
        gpus: 0 is the CPU; None is one GPU, or the CPU of a machine without GPU.

    Raises:
        InputError: if fewer GPUs than that are here.
    """
    if gpus == 0:
        return [()]
    import torch

    count = torch.cuda.device_count()
    if gpus is None:
        return device_groups(min(count, 1))
    if count < gpus:
        raise InputError(
            f"--gpus-per-job {gpus}: {count} GPUs are here; give fewer (0 is the CPU), or --launcher slurm"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [tuple(names[start : start + gpus]) for start in range(0, count - gpus + 1, gpus)]


def run_locally(
    trainings: Sequence[FoldTraining], groups: Sequence[tuple[str, ...]], resume: bool = True
) -> Generator[Event | None, None, None]:
    """Run the trainings that are not finished, each on the next free group of devices.

    A training that fails does not stop the others. None says that nothing happened for a second. Closing the iterator
    kills the trainings that run.

    Args:
        trainings: the trainings, in the order in which to start them.
        groups: groups of GPUs, as ``device_groups`` gives them.
        resume: whether broken trainings go on from their checkpoint.
    """
    waiting = list(trainings)
    running: dict[tuple[str, ...], tuple[FoldTraining, LoggedCommand]] = {}
    try:
        while waiting or running:
            for group in groups:
                while group not in running and waiting:
                    training = waiting.pop(0)
                    try:
                        command = training.start(group, resume)
                    except BusyError as error:
                        yield Event(training.name, "failed", f"left alone, {error}")
                        continue
                    if command is None:
                        yield Event(training.name, "skipped", f"finished earlier, {dice_text(training)}")
                        continue
                    running[group] = training, command
                    yield Event(training.name, "started", command.line)
            for group, (training, command) in list(running.items()):
                code = command.poll()
                if code is not None:
                    del running[group]
                    yield outcome(training, code, command.seconds)
            if running:
                time.sleep(1)
                yield None
    finally:
        for _, command in running.values():
            command.stop()

"""What runs an experiment's trainings: the interface of each module of ``missu_nnunet.experiments.launchers``."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from missu_nnunet.errors import InputError
from missu_nnunet.experiments import launchers
from missu_nnunet.experiments.cost import ArmCost
from missu_nnunet.experiments.events import Event
from missu_nnunet.experiments.experiment import Experiment


@dataclass(frozen=True)
class Options:
    """The user's options for a launcher.

    Attributes:
        gpus: GPUs of each training; 0 is the CPU, and None what suits the launcher.
        hours: time limit of a job, where there are jobs.
        sbatch: further options of SLURM's ``sbatch`` by their long names, such as ``{"partition": "gpu"}``.
    """

    gpus: int | None = None
    hours: float = 24
    sbatch: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """An estimate of an experiment's cost.

    Attributes:
        costs: the cost of each arm with something left to train; None where an arm's timed iterations failed.
        parallel: trainings at once.
        here: whether they run on this machine, whose memory they share.
    """

    costs: Sequence[ArmCost | None]
    parallel: int
    here: bool = False


class Launcher(ABC):
    """Runs the trainings of an experiment somewhere.

    Args:
        options: the user's wishes.

    Attributes:
        gpus: GPUs of each training; 0 trains on the CPU.

    Raises:
        InputError: if the launcher cannot be used here, or not so.
    """

    gpus: int

    @abstractmethod
    def __init__(self, options: Options) -> None: ...

    @abstractmethod
    def estimate(self, experiment: Experiment, resume: bool, tell: Callable[[str], None]) -> Estimate:
        """Time a few iterations of each arm where the trainings will run.

        Args:
            experiment: the experiment to run.
            resume: whether broken trainings go on from their checkpoint.
            tell: called with what the user should know meanwhile.
        """

    @abstractmethod
    def run(self, experiment: Experiment, resume: bool) -> Generator[Event | None, None, None]:
        """Run, or hand over, what is left of the experiment, and the accumulation after it.

        None says that nothing happened for a while. Closing the generator ends what runs in this process.

        Args:
            experiment: the experiment to run.
            resume: whether broken trainings go on from their checkpoint; otherwise they begin anew.
        """

    @classmethod
    @abstractmethod
    def states(cls, experiment: Experiment) -> dict[str, str]:
        """The trainings that wait or run elsewhere: name of a training → a word such as PENDING."""


def launcher_names() -> list[str]:
    """The names of the launchers there are."""
    return [module.name for module in pkgutil.iter_modules(launchers.__path__)]


def find_launcher(name: str) -> type[Launcher]:
    """The launcher of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in launcher_names():
        raise InputError(f"--launcher {name}: unknown, expected one of {', '.join(launcher_names())}")
    launcher: type[Launcher] = import_module(f"{launchers.__name__}.{name}").LAUNCHER
    return launcher


def states_elsewhere(experiment: Experiment) -> dict[str, str]:
    """The trainings that wait or run by any launcher, see ``Launcher.states``."""
    return {
        training: state
        for name in launcher_names()
        for training, state in find_launcher(name).states(experiment).items()
    }

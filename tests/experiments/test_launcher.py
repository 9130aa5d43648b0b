"""Launchers are found by name, and a further one is one file."""

from pathlib import Path

import pytest

from missu_nnunet.errors import InputError
from missu_nnunet.experiments import launchers
from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.experiments.launcher import Launcher, Options, find_launcher, launcher_names, states_elsewhere

THIRD = """
from missu_nnunet.experiments.launcher import Estimate, Launcher


class Third(Launcher):
    def __init__(self, options):
        self.gpus = options.gpus or 3

    def estimate(self, experiment, resume, tell):
        return Estimate([], 1)

    def run(self, experiment, resume):
        yield None

    @classmethod
    def states(cls, experiment):
        return {training.name: "DREAMING" for training in experiment.trainings()}


LAUNCHER = Third
"""


def test_launchers_are_found_by_name() -> None:
    assert launcher_names() == ["local", "slurm"]
    assert all(issubclass(find_launcher(name), Launcher) for name in launcher_names())
    with pytest.raises(InputError, match=r"--launcher cloud: unknown, expected one of local, slurm"):
        find_launcher("cloud")


def test_a_further_launcher_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "third.py").write_text(THIRD)
    monkeypatch.setattr(launchers, "__path__", [*launchers.__path__, str(tmp_path)])
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no SLURM
    assert launcher_names() == ["local", "slurm", "third"]
    assert find_launcher("third")(Options()).gpus == 3
    experiment = Experiment("Dataset999_None", "3d_fullres", (Arm("MISSUTrainer", "nnUNetPlans"),), (0,), gpus=0)
    assert states_elsewhere(experiment) == {"MISSUTrainer nnUNetPlans fold 0": "DREAMING"}

"""SLURM where it does not answer; ``tests/integration/test_slurm.py`` has one that does."""

import shutil
from pathlib import Path

import pytest

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.experiments.launchers.slurm import SlurmLauncher, write_jobs


@pytest.mark.skipif(shutil.which("squeue") is None, reason="needs SLURM's programs")
def test_jobs_that_cannot_be_asked_for_are_not_taken_for_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.conf").write_text("SlurmctldHost=nowhere\n")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    experiment = Experiment("Dataset999_None", "3d_fullres", (Arm("MISSUTrainer", "nnUNetPlans"),), (0,), gpus=0)
    assert SlurmLauncher.states(experiment) == {}  # it has no jobs, and SLURM is not asked
    write_jobs(experiment, {"MISSUTrainer nnUNetPlans fold 0": "7"})
    with pytest.raises(InputError, match=r"^squeue: SLURM does not answer \(squeue: fatal: .*\); try again"):
        SlurmLauncher.states(experiment)

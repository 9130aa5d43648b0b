"""What is left to do of a training, and that no fold is trained twice at the same time."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from missu_nnunet.experiments.fold_training import FoldTraining
from missu_nnunet.nnunet import command
from missu_nnunet.nnunet.command import BusyError, locked_log


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FoldTraining:
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    training = FoldTraining("Dataset999_None", "3d_fullres", "MISSUTrainer", "nnUNetPlans", 2, gpus=0)
    training.folder.mkdir(parents=True)
    return training


def test_command_is_nnunets_and_does_what_is_left(training: FoldTraining) -> None:
    plain = shlex.split("nnUNetv2_train Dataset999_None 3d_fullres 2 -tr MISSUTrainer -p nnUNetPlans -device cpu")
    assert training.command() == plain
    torch.save({}, training.folder / "checkpoint_best.pth")
    assert training.command() == [*plain, "--c"]
    torch.save({}, training.folder / "checkpoint_final.pth")
    assert training.command() == [*plain, "--val"]
    assert training.command(resume=False) == plain


def test_a_seed_is_given_to_the_command_with_its_results_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "my results"))
    training = FoldTraining("Dataset999_None", "2d", "MISSUTrainer", "nnUNetPlans", 0, gpus=1, seed=3)
    results, seed, *command = shlex.split(training.line(resume=True))
    assert (results, seed) == (f"nnUNet_results={tmp_path}/my results/seed_3", "MISSU_SEED=3")
    assert command == replace(training, seed=None).command()
    assert training.folder.parents[2] == tmp_path / "my results" / "seed_3"


@pytest.mark.parametrize(("gpus", "options"), [(1, []), (2, ["-num_gpus", "2"])])
def test_gpus_are_nnunets_default_device(gpus: int, options: list[str]) -> None:
    training = FoldTraining("Dataset999_None", "2d", "nnUNetTrainer", "nnUNetPlans", 0, gpus)
    assert training.command()[8:] == options


def test_a_fold_is_trained_by_one_process_at_a_time(training: FoldTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE", 0.3)
    with locked_log(training.log) as log:
        process = subprocess.Popen(["sleep", "60"], stdout=log)
    assert training.is_running()  # for as long as the process has the log
    with pytest.raises(BusyError, match=r"crossval\.log"):
        training.start()
    process.kill()
    process.wait()
    assert not training.is_running()


def test_results_of_an_earlier_training_do_not_count_for_a_new_one(training: FoldTraining) -> None:
    torch.save({}, training.folder / "checkpoint_best.pth")
    (training.folder / "validation").mkdir()
    (training.folder / "validation" / "summary.json").write_text('{"foreground_mean": {"Dice": 1}}')
    command = training.start(resume=False)
    assert command.wait() != 0  # there is no such dataset
    assert "--c" not in command.line
    assert not training.is_finished()
    assert training.log.read_text().splitlines()[0].endswith(f"$ {command.line}")
    assert "Dataset999_None" in training.log.read_text().splitlines()[-2]  # nnU-Net's complaint

"""Curves from checkpoints and logs."""

import math
from pathlib import Path

import pytest
import torch
from result_folders import write_model

from missu_nnunet.nnunet.fold import Fold
from missu_nnunet.report.training_curves import _read_fold, read_training
from missu_nnunet.weights.inspection import inspect_file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path, "MISSUTrainer", 1)


def test_checkpoint_and_log(model: Path) -> None:
    first, second = read_training(model)
    assert (first.fold, first.epochs, first.notes) == ("0", 3, [])
    assert first.curves["train_losses"] == [0.5, 0, -0.5]
    assert first.curves["kd_loss"] == [0.5, 0.4, 0.3]
    assert first.epoch_seconds == [9, 8, 10]
    assert first.checkpoint["parameters"] == 12
    assert second.curves["lrs"] == [0.01, 0.005]
    assert second.curves["train_losses"] == [1.0714, 0.5]
    assert second.curves["seg_loss"] == [0.6054]
    assert second.curves["aux_loss"] == [-0.068]
    assert second.curves["mean_fg_dice"] == [pytest.approx(0.6)]
    assert second.notes == ["fold 1 has no checkpoint: its curves are those of its training log."]


def test_logs_of_a_continued_training_are_joined(model: Path) -> None:
    log = model / "fold_1" / "training_log_2026_1_2_10_00_00.txt"
    log.write_text("x: Epoch 1\nx: train_loss 0.25\nx: Epoch 3\nx: train_loss 0.1\n")
    losses = read_training(model)[1].curves["train_losses"]
    assert losses[:2] == [1.0714, 0.25]
    assert math.isnan(losses[2])
    assert losses[3] == 0.1


def test_an_unfinished_training(model: Path) -> None:
    fold = model / "fold_0"
    (fold / "checkpoint_final.pth").rename(fold / "checkpoint_latest.pth")
    run = read_training(model)[0]
    assert run.epochs == 3
    assert "is not finished" in run.notes[0]


def test_a_checkpoint_that_would_run_code_is_not_loaded(model: Path) -> None:
    torch.save({"network_weights": Path}, model / "fold_0" / "checkpoint_final.pth")
    run = read_training(model)[0]
    assert not run.checkpoint
    assert "refused" in run.notes[0]


def test_whatever_else_a_log_holds_is_left_out(model: Path) -> None:
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["logging"] = {"train_losses": "abc", "lrs": [[1]], "kd_loss": 3, "val_losses": [1, 2]}
    torch.save(checkpoint, file)
    assert read_training(model)[0].curves == {"val_losses": [1, 2]}


@pytest.mark.parametrize("end", [math.inf, math.nan, 1e300, 10**400])
def test_times_that_no_epoch_takes_are_left_out(model: Path, end: float) -> None:
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["logging"] = {"epoch_start_timestamps": [0, 1], "epoch_end_timestamps": [end, 3]}
    torch.save(checkpoint, file)
    assert read_training(model)[0].epoch_seconds in ([2], [])


def test_a_parameter_under_several_names_counts_once(model: Path) -> None:
    """As ``missu inspect`` and ``missu info`` count."""
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    weights = torch.zeros(3, 4)
    checkpoint["network_weights"] = {"a.weight": weights, "b.weight": weights, "norm.running_mean": torch.zeros(5)}
    torch.save(checkpoint, file)
    (inspected,) = inspect_file(file)
    assert read_training(model)[0].checkpoint["parameters"] == inspected.parameters == 12


def test_a_model_at_the_root_of_the_file_system() -> None:
    run = _read_fold(Fold(Path("/MISSUTrainer__nnUNetPlans__3d_fullres/fold_0")))
    assert (run.seed, run.notes) == (None, ["fold 0 has neither checkpoint nor training log."])


def test_which_folds(model: Path, tmp_path: Path) -> None:
    assert [run.fold for run in read_training(model / "fold_1")] == ["1"]
    assert [run.fold for run in read_training(model / "fold_1" / "validation")] == ["1"]
    assert read_training(tmp_path) == []
    (model / "fold_2").mkdir()
    assert read_training(model)[2].notes == ["fold 2 has neither checkpoint nor training log."]
    (model / "fold_1").rename(model / "fold_all")
    assert [run.fold for run in read_training(model / "fold_all")] == ["all"]
    assert [run.fold for run in read_training(model)] == ["0", "2"]
    for name in ("fold_0", "fold_2"):
        (model / name).rename(model / f"kept_{name}")
    assert [run.fold for run in read_training(model)] == ["all"]

"""A fold's state, from files as nnU-Net writes them."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from missu_nnunet.nnunet.fold import Fold, Progress

EPOCHS = """
2026-01-01 00:00:00.000000: Epoch 0 
2026-01-01 00:00:00.000000: Epoch time: 12.5 s
2026-01-01 00:00:00.000000: Epoch 1 
"""  # noqa: W291 (nnU-Net ends its lines so)


def write_summary(fold: Path) -> Path:
    summary = fold / "validation" / "summary.json"
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(json.dumps({"foreground_mean": {"Dice": 0.5}}))
    return summary


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.9999))
def test_half_written_checkpoint_is_set_aside(tmp_path: Path, share: float) -> None:
    file = tmp_path / "checkpoint_latest.pth"
    torch.save({"weights": torch.rand(1000)}, file)
    assert Fold(tmp_path).can_continue()
    assert Fold(tmp_path).set_broken_checkpoints_aside() == []
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert not Fold(tmp_path).can_continue()
    assert Fold(tmp_path).set_broken_checkpoints_aside() == [file]
    assert not file.exists()


def test_finished_is_trained_and_scored(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "checkpoint_best.pth")
    summary = write_summary(tmp_path)
    assert not Fold(tmp_path).is_trained()
    assert not Fold(tmp_path).is_finished()
    torch.save({}, tmp_path / "checkpoint_final.pth")
    assert Fold(tmp_path).is_finished()
    summary.write_text(summary.read_text()[:-5])
    assert Fold(tmp_path).is_trained()
    assert not Fold(tmp_path).is_finished()


@pytest.mark.parametrize(("tail", "done"), [("", 1), ("2026-01-01 00:00:00.000000: Epoch time: 13.5 s\n", 2)])
def test_progress_counts_the_epochs_that_ended(tmp_path: Path, tail: str, done: int) -> None:
    assert Fold(tmp_path).progress() is None
    (tmp_path / "training_log_2026_1_1_00_00_00.txt").write_text(EPOCHS + tail)
    (tmp_path / "training_log_2026_1_1_00_00_01.txt").write_text("starting\n")  # says nothing yet
    (tmp_path / "debug.json").write_text(json.dumps({"num_epochs": "8"}))
    assert Fold(tmp_path).progress() == Progress(done, 8, 13.5 if tail else 12.5)


def test_a_number_of_epochs_that_none_trains_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "training_log_2026_1_1_00_00_00.txt").write_text(EPOCHS)
    (tmp_path / "debug.json").write_text(json.dumps({"num_epochs": "9" * 400}))
    assert Fold(tmp_path).progress() == Progress(1, None, 12.5)


def test_logs_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    names = [f"training_log_{day}_00_00_00.txt" for day in ("2026_9_30", "2026_10_2", "2026_10_11")]
    for name in names:
        (tmp_path / name).touch()
    assert [log.name for log in Fold(tmp_path).logs()] == names


def test_says_why_the_latest_training_ended_early(tmp_path: Path) -> None:
    assert Fold(tmp_path).early_end() is None
    (tmp_path / "training_log_2026_1_1_00_00_01.txt").write_text(
        "Epoch 0\nEpoch time: 1.0 s\nTraining ended early, after 1 of 9 epochs: the file stop was there\n"
    )
    assert Fold(tmp_path).early_end() == "1 of 9 epochs: the file stop was there"
    (tmp_path / "training_log_2026_1_1_00_00_02.txt").write_text("a validation alone\n")
    assert Fold(tmp_path).early_end() == "1 of 9 epochs: the file stop was there"
    (tmp_path / "training_log_2026_1_1_00_00_03.txt").write_text("Epoch 1\nEpoch time: 1.0 s\n")
    assert Fold(tmp_path).early_end() is None

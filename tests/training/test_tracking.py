import re
import time
from pathlib import Path

import pytest
import torch
from checkpoints import dataset_json, initialized, saved, tiny_plans, train_epoch
from mlflow import MlflowClient
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from missu_nnunet.errors import InputError
from missu_nnunet.training.tracking import MLFLOW_VARIABLE, TENSORBOARD_VARIABLE, MLflow, trackers
from missu_nnunet.training.trainer import MISSUTrainer


def _next_second() -> None:
    """Wait for it: TensorBoard reads files in the order of their names, which hold the second they were made in."""
    time.sleep(1 - time.time() % 1)


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fold's folder after two epochs, the second of a continued training, with both trackers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv(TENSORBOARD_VARIABLE, "1")
    monkeypatch.setenv(MLFLOW_VARIABLE, "1")
    fold = tmp_path / "Jürgen's" / "fold_0"
    fold.mkdir(parents=True)
    for epoch in range(2):
        _next_second()
        logger = MetaLogger(str(fold), resume=epoch > 0)
        logger.loggers.extend(trackers(fold, "Dataset901_Tiny MISSUTrainer fold 0", continued=epoch > 0))
        logger.update_config({"missu": {"w_kd": 1.0, "teacher": "average"}})
        for step in range(epoch + 1):  # the local logger is restored from a checkpoint otherwise
            logger.local_logger.log("train_losses", 0.5 - step / 4, step)
        logger.log("train_losses", 0.5 - epoch / 4, epoch)
        logger.log("dice_per_class_or_region", [0.1, 0.2], epoch)
    logger.log_summary("final_val/foreground_dice", 0.75)
    return fold


def test_tensorboard_has_a_value_per_epoch(logged: Path) -> None:
    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_losses")] == [(0, 0.5), (1, 0.25)]
    assert events.Scalars("dice_per_class_or_region/class_2")[0].value == pytest.approx(0.2)
    assert events.Scalars("final_val/foreground_dice")[0].value == 0.75


def test_mlflow_has_one_run_of_a_training_that_was_continued(logged: Path) -> None:
    client = MlflowClient()
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == "Dataset901_Tiny MISSUTrainer fold 0"
    assert run.data.params == {"missu.w_kd": "1.0", "missu.teacher": "average"}
    history = client.get_metric_history(run.info.run_id, "train_losses")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.25)]
    assert run.data.metrics["final_val/foreground_dice"] == 0.75
    assert run.info.status == "FINISHED"
    trackers(logged, "name", continued=True)  # the training goes on
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def test_a_training_that_begins_anew_is_not_mixed_with_the_one_before(logged: Path) -> None:
    _next_second()
    for tracker in trackers(logged, "anew", continued=False):
        tracker.update_config({"missu": {"w_kd": 2.0}})
        tracker.log("train_losses", 0.75, 0)
    _next_second()
    for tracker in trackers(logged, "anew", continued=True):
        tracker.log("train_losses", 0.625, 1)
    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train_losses")] == [(0, 0.75), (1, 0.625)]
    client = MlflowClient()
    (run,) = (run for run in client.search_runs(["0"]) if run.info.run_name == "anew")
    assert run.data.params == {"missu.w_kd": "2.0"}
    history = client.get_metric_history(run.info.run_id, "train_losses")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.75), (1, 0.625)]


def test_the_trainer_knows_whether_it_is_continued(
    nnunet_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TENSORBOARD_VARIABLE, "1")
    plans = tiny_plans() | {"plans_name": "Tracked"}  # a folder of its own
    first = initialized(MISSUTrainer, plans, dataset_json())
    train_epoch(first)
    checkpoint = saved(first, tmp_path / "checkpoint_latest.pth")
    _next_second()
    again = MISSUTrainer(plans | {"continue_training": True}, "3d_fullres", 0, dataset_json(), torch.device("cpu"))
    again.load_checkpoint(str(checkpoint))
    train_epoch(again)
    assert _losses(first) == [0, 1]
    _next_second()
    train_epoch(initialized(MISSUTrainer, plans, dataset_json()))
    assert _losses(first) == [0]


def _losses(trainer: MISSUTrainer) -> list[int]:
    """The steps whose loss TensorBoard shows."""
    events = EventAccumulator(str(Path(trainer.output_folder) / "tensorboard"))
    events.Reload()
    return [event.step for event in events.Scalars("train_losses")]


def test_nothing_is_tracked_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TENSORBOARD_VARIABLE, raising=False)
    monkeypatch.setenv(MLFLOW_VARIABLE, "0")
    assert trackers(tmp_path, "name", continued=False) == []
    assert not list(tmp_path.iterdir())


def test_a_variable_that_is_neither_0_nor_1_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TENSORBOARD_VARIABLE, "yes")
    with pytest.raises(InputError, match="MISSU_TENSORBOARD='yes': expected 1 or 0"):
        trackers(tmp_path, "name", continued=False)


@pytest.mark.parametrize("uri", ["nonsense://a", "http://127.0.0.1:9"])
def test_a_place_that_mlflow_cannot_use_is_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(MLFLOW_VARIABLE, "1")
    with pytest.raises(InputError, match=re.escape(f"MLflow cannot use {uri} (")) as raised:
        trackers(tmp_path, "name", continued=False)
    assert "\n" not in str(raised.value)


def test_an_outage_ends_the_tracking_and_not_the_training(logged: Path) -> None:
    (tracker,) = (tracker for tracker in trackers(logged, "name", continued=True) if isinstance(tracker, MLflow))
    tracker.log("train_losses", 0.1, 2)
    MlflowClient().delete_run(tracker._run)  # which takes no values any more
    with pytest.warns(UserWarning, match="not tracked"):
        tracker.log("train_losses", 0.1, 3)
    tracker.log("train_losses", 0.1, 4)

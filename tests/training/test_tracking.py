import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from missu_nnunet.errors import InputError
from missu_nnunet.training.tracking import MLFLOW_VARIABLE, TENSORBOARD_VARIABLE, MLflow, trackers


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fold's folder after two epochs, the second of a continued training, with both trackers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv(TENSORBOARD_VARIABLE, "1")
    monkeypatch.setenv(MLFLOW_VARIABLE, "1")
    fold = tmp_path / "Jürgen's" / "fold_0"
    fold.mkdir(parents=True)
    for epoch in range(2):
        logger = MetaLogger(str(fold), resume=epoch > 0)
        logger.loggers.extend(trackers(fold, "Dataset901_Tiny MISSUTrainer fold 0"))
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
    trackers(logged, "name")  # the training goes on
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def test_nothing_is_tracked_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TENSORBOARD_VARIABLE, raising=False)
    monkeypatch.setenv(MLFLOW_VARIABLE, "0")
    assert trackers(tmp_path, "name") == []
    assert not list(tmp_path.iterdir())


def test_a_variable_that_is_neither_0_nor_1_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TENSORBOARD_VARIABLE, "yes")
    with pytest.raises(InputError, match="MISSU_TENSORBOARD='yes': expected 1 or 0"):
        trackers(tmp_path, "name")


@pytest.mark.parametrize("uri", ["nonsense://a", "http://127.0.0.1:9"])
def test_a_place_that_mlflow_cannot_use_is_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(MLFLOW_VARIABLE, "1")
    with pytest.raises(InputError, match=re.escape(f"MLflow cannot use {uri} (")) as raised:
        trackers(tmp_path, "name")
    assert "\n" not in str(raised.value)


def test_an_outage_ends_the_tracking_and_not_the_training(logged: Path) -> None:
    (tracker,) = (tracker for tracker in trackers(logged, "name") if isinstance(tracker, MLflow))
    tracker.log("train_losses", 0.1, 2)
    MlflowClient().delete_run(tracker._run)  # which takes no values any more
    with pytest.warns(UserWarning, match="not tracked"):
        tracker.log("train_losses", 0.1, 3)
    tracker.log("train_losses", 0.1, 4)

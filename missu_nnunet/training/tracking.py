"""Experiment tracking beside nnU-Net's own: what nnU-Net sends to Weights & Biases goes to TensorBoard and MLflow too.

Off unless an environment variable asks for it: ``MISSU_TENSORBOARD=1`` writes event files into the fold's folder,
``MISSU_MLFLOW=1`` a run to where MLflow's own ``MLFLOW_TRACKING_URI`` says. Each class has the three methods by which
nnU-Net's ``MetaLogger`` passes values on.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from missu_nnunet.errors import InputError
from missu_nnunet.extras import require_extra

if TYPE_CHECKING:
    from mlflow import MlflowClient

TENSORBOARD_VARIABLE, MLFLOW_VARIABLE = "MISSU_TENSORBOARD", "MISSU_MLFLOW"

UNTRACKED = dict.fromkeys((TENSORBOARD_VARIABLE, MLFLOW_VARIABLE, "nnUNet_wandb_enabled"), "0")
"""Environment variables of trainings that are none of the user's, such as timed iterations."""


class Tracker(Protocol):
    """The interface that nnU-Net's ``MetaLogger`` asks of a logger."""

    def update_config(self, config: dict[str, Any]) -> None:
        """Add settings of the training."""

    def log(self, key: str, value: float, step: int) -> None:
        """Add the value of an epoch."""

    def log_summary(self, key: str, value: float) -> None:
        """Add a value of the whole training."""


def trackers(fold: Path, name: str, continued: bool) -> list[Tracker]:
    """The trackers that the environment asks for.

    Args:
        fold: the fold's folder.
        name: name of the training there.
        continued: whether values of an earlier training in this folder go on.

    Raises:
        InputError: if a variable is neither 0 nor 1, a library is not installed, or MLflow cannot be reached.
    """
    found: list[Tracker] = []
    if _is_on(TENSORBOARD_VARIABLE):
        found.append(TensorBoard(fold, continued))
    if _is_on(MLFLOW_VARIABLE):
        found.append(MLflow(fold, name, continued))
    return found


class TensorBoard:
    """Event files in ``FOLD/tensorboard``; show them with ``tensorboard --logdir``."""

    def __init__(self, fold: Path, continued: bool) -> None:
        with require_extra("tracking"):
            from torch.utils.tensorboard import SummaryWriter
        # From this step on TensorBoard hides what an earlier training has written there.
        self._writer = SummaryWriter(str(fold / "tensorboard"), purge_step=None if continued else 0)

    def update_config(self, config: dict[str, Any]) -> None:
        """Add settings, as text."""
        for name, value in _flat(config):
            self._writer.add_text(f"settings/{name}", str(value))

    def log(self, key: str, value: float, step: int) -> None:
        """Add the value of an epoch."""
        self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def log_summary(self, key: str, value: float) -> None:
        """Add a value of the whole training."""
        self._writer.add_scalar(key, value, 0)
        self._writer.flush()


class MLflow:
    """A run of MLflow; a training that is continued continues its run, the latest one of its folder.

    Raises:
        InputError: if MLflow cannot use the place that its environment variables name.
    """

    def __init__(self, fold: Path, name: str, continued: bool) -> None:
        with require_extra("tracking"):
            from mlflow import MlflowClient, get_tracking_uri
        folder = str(fold.resolve())
        experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        try:
            client = MlflowClient()
            experiment = client.get_experiment_by_name(experiment_name)
            number = experiment.experiment_id if experiment else client.create_experiment(experiment_name)
            same_fold = f"tags.`missu.fold` = {json.dumps(folder, ensure_ascii=False)}"
            runs = client.search_runs([number], same_fold, order_by=["start_time DESC"]) if continued else []
            run = runs[0] if runs else client.create_run(number, tags={"missu.fold": folder}, run_name=name)
            client.update_run(run.info.run_id, status="RUNNING")
        except Exception as error:  # MLflow passes on what its databases and the network raise
            raise InputError(
                f"{MLFLOW_VARIABLE}=1: MLflow cannot use {get_tracking_uri()} ({_reason(error)}); set "
                "MLFLOW_TRACKING_URI to its server or to a file such as sqlite:////folder/mlflow.db, or unset "
                f"{MLFLOW_VARIABLE}"
            ) from error
        self._client: MlflowClient | None = client
        self._run = run.info.run_id

    def update_config(self, config: dict[str, Any]) -> None:
        """Add settings; those of a continued training stay as they are."""

        def send(client: MlflowClient) -> None:
            known = client.get_run(self._run).data.params
            for name, value in _flat(config):
                if name not in known:
                    client.log_param(self._run, name, value)

        self._send(send)

    def log(self, key: str, value: float, step: int) -> None:
        """Add the value of an epoch."""
        self._send(lambda client: client.log_metric(self._run, key, float(value), step=step))

    def log_summary(self, key: str, value: float) -> None:
        """Add a value of the whole training, which has ended, since nnU-Net's validation is its last step."""

        def send(client: MlflowClient) -> None:
            client.log_metric(self._run, key, float(value))
            client.set_terminated(self._run)

        self._send(send)

    def _send(self, send: Callable[[MlflowClient], object]) -> None:
        """An outage of the server ends the tracking, since it must not end the training."""
        if self._client is None:
            return
        try:
            send(self._client)
        except Exception as error:
            self._client = None
            warnings.warn(
                f"MLflow: {_reason(error)}; what follows of this training is not tracked, until it is continued",
                stacklevel=2,
            )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted names."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_on(variable: str) -> bool:
    value = os.environ.get(variable, "0")
    if value not in ("0", "1"):
        raise InputError(f"{variable}={value!r}: expected 1 or 0; set one of them or unset it")
    return value == "1"

"""``-num_gpus`` as far as a CPU can show it: two processes with gloo, through nnU-Net's trainer."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_training import made_batch, train_in_parallel, trained
from forked import PRELOAD
from torch.multiprocessing import start_processes

from missu_nnunet.distillation import cutmix


@pytest.fixture(scope="module")
def folder(nnunet_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the results of a training by two processes."""
    folder = tmp_path_factory.mktemp("distributed")
    multiprocessing.set_forkserver_preload(PRELOAD)
    start_processes(train_in_parallel, (dict(os.environ), folder, made_batch()), nprocs=2, start_method="forkserver")
    return folder


@pytest.fixture
def alone(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What comes of one process's training on the joint batch, of which no patch is pasted into another."""
    monkeypatch.setattr(cutmix, "BOX_SHARES", (0.0, 0.0))
    return trained(made_batch())[1]


@pytest.fixture(params=[0, 1])
def result(folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    return torch.load(folder / f"result_of_{request.param}.pt")


def test_gradients_weights_and_log_are_those_of_one_process_on_the_joint_batch(
    result: dict[str, Any], alone: dict[str, Any]
) -> None:
    for part in ("gradients", "weights", "average"):
        torch.testing.assert_close(result[part], alone[part], rtol=1e-4, atol=1e-5)
    assert result["log"] == pytest.approx(alone["log"], rel=1e-4)


def test_a_loss_that_is_not_finite_in_one_process_skips_the_step_in_both(folder: Path) -> None:
    results = [torch.load(folder / f"result_of_{rank}.pt") for rank in (0, 1)]
    assert [result["non-finite"] for result in results] == [0, 1]
    for result in results:
        torch.testing.assert_close(result["weights after NaN"], result["weights"], rtol=0, atol=0)


def test_the_moving_average_is_the_same_in_both(folder: Path) -> None:
    first, second = (torch.load(folder / f"result_of_{rank}.pt") for rank in (0, 1))
    for part in ("average", "average after NaN"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    assert all(average.isfinite().all() for average in first["average after NaN"])


def test_the_first_process_saves_and_all_load(folder: Path, result: dict[str, Any]) -> None:
    assert [file.name for file in folder.glob("*.pth")] == ["checkpoint_of_0.pth"]
    torch.testing.assert_close(result["weights loaded"], result["weights"], rtol=0, atol=0)

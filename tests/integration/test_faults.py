"""A training that is killed again and again ends with the weights of an uninterrupted one, bit for bit."""

import contextlib
import os
import random
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import start, wait_for

from missu_nnunet.files import PARTIAL
from missu_nnunet.nnunet.checkpoint import read_checkpoint

EPOCHS = 10
TRAINER = f"MISSUTrainer_{EPOCHS}epochs_2iters"
PLANS = "nnUNetMISSUPlansCPU"
COMMAND = ("nnUNetv2_train", 903, "3d_fullres", 0, "-tr", TRAINER, "-p", PLANS, "-device", "cpu")
KILLS_AT_RANDOM = 14
KILLS_WHILE_WRITING = 6


def wait_for_write(fold: Path, process: BaseProcess, since: float) -> None:
    """Return in the middle of a checkpoint's writing, or when the process has ended."""
    while not has_torn_file(fold, since) and process.is_alive():
        time.sleep(0.0005)


def has_torn_file(fold: Path, since: float) -> bool:
    """Whether a file is there that somebody began to write after that time, and has not finished."""
    with contextlib.suppress(FileNotFoundError):  # finished and renamed between listing and looking
        return any(file.stat().st_mtime > since for file in fold.glob(f"{PARTIAL}*-checkpoint_*"))
    return False


def final_state(fold: Path) -> dict[str, Any]:
    file = fold / "checkpoint_final.pth"
    checkpoint = read_checkpoint(file, file.name)
    assert checkpoint["current_epoch"] == EPOCHS
    return {
        "network": checkpoint["network_weights"],
        "teachers": checkpoint["missu"]["teacher_weights"],
        "moments": {
            (index, name): value
            for index, state in checkpoint["optimizer_state"]["state"].items()
            for name, value in state.items()
        },
    }


def assert_same(interrupted: dict[str, Any], through: dict[str, Any]) -> None:
    for part, tensors in through.items():
        assert interrupted[part].keys() == tensors.keys()
        assert all(torch.equal(interrupted[part][key], tensor) for key, tensor in tensors.items()), part


def test_twenty_kills_leave_the_same_weights(planned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISSU_SEED", "3")
    fold = Path(os.environ["nnUNet_results"]) / planned / f"{TRAINER}__{PLANS}__3d_fullres" / "fold_0"
    log = tmp_path / "log.txt"

    # The run without interruption, which also tells how long things take here; its validation is not needed.
    start("nnUNetv2_train", "--help", log=log).join()  # imports everything for all that follow
    begin = time.monotonic()
    process = start(*COMMAND, log=log)
    wait_for(fold / "checkpoint_best.pth", process, log)
    first_epoch = time.monotonic() - begin
    wait_for(fold / "checkpoint_final.pth", process, log)
    epoch = (time.monotonic() - begin - first_epoch) / (EPOCHS - 1)
    process.kill()
    process.join()
    shutil.move(fold, tmp_path / "through")
    through = final_state(tmp_path / "through")

    moments = random.Random(0)
    at_random = while_writing = 0
    while at_random < KILLS_AT_RANDOM or while_writing < KILLS_WHILE_WRITING:
        begin = time.time()
        process = start(*COMMAND, "--c", log=log)
        if while_writing < KILLS_WHILE_WRITING and at_random >= 2 * while_writing:
            wait_for_write(fold, process, begin)
        else:
            time.sleep(moments.uniform(0, first_epoch + 3 * epoch))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was through before its moment came: the rest of the kills go to another one
            assert_same(final_state(fold), through)
            shutil.rmtree(fold)
            continue
        assert process.exitcode == -9, log.read_text()
        if has_torn_file(fold, begin):
            while_writing += 1
        else:
            at_random += 1
        for checkpoint in fold.glob("checkpoint_*.pth"):
            read_checkpoint(checkpoint, str(checkpoint))

    process = start(*COMMAND, "--c", log=log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert not any(fold.glob(f"{PARTIAL}*"))
    assert (fold / "validation" / "summary.json").exists()
    assert_same(final_state(fold), through)

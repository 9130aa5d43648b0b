"""A tiny dataset that has gone through nnU-Net's own commands, for the tests of the commands that follow."""

import os
import time
from pathlib import Path

import pytest
from commands import PLANS, TRAINER
from forked import run, start, wait_for


@pytest.fixture(scope="session")
def fold(planned: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a fold that was killed after its first checkpoint and then continued to its end."""
    folder = Path(os.environ["nnUNet_results"]) / planned / f"{TRAINER}__{PLANS}__3d_fullres" / "fold_0"
    train = ("nnUNetv2_train", 903, "3d_fullres", 0, "-tr", TRAINER, "-p", PLANS, "-device", "cpu")
    log = tmp_path_factory.mktemp("fold") / "log.txt"
    process = start(*train, log=log)
    wait_for(folder / "checkpoint_best.pth", process, log)
    process.kill()
    process.join()
    assert not (folder / "checkpoint_final.pth").exists()
    time.sleep(1)  # nnU-Net names a log by the second in which it starts
    run(*train, "--c")
    return folder

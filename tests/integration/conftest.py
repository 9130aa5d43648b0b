"""A tiny dataset that has gone through nnU-Net's own commands, for the tests of the commands that follow."""

import os
import time
from pathlib import Path

import pytest
from commands import PLANS, TRAINER, run, start


@pytest.fixture(scope="session")
def fold(planned: str) -> Path:
    """Folder of a fold that was killed after its first checkpoint and then continued to its end."""
    folder = Path(os.environ["nnUNet_results"]) / planned / f"{TRAINER}__{PLANS}__3d_fullres" / "fold_0"
    train = ("nnUNetv2_train", 903, "3d_fullres", 0, "-tr", TRAINER, "-p", PLANS, "-device", "cpu")
    process = start(*train)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint_best.pth").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (folder / "checkpoint_final.pth").exists()
    run(*train, "--c")
    return folder

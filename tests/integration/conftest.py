"""A tiny dataset that has gone through nnU-Net's own commands, for the tests of the commands that follow."""

import os
import time
from pathlib import Path

import pytest
from commands import PLANS, TRAINER, run, start
from tiny_dataset import write_raw_dataset


@pytest.fixture(scope="session")
def planned(nnunet_folders: Path) -> str:
    """Name of Dataset903, planned for MISSU on a CPU and preprocessed."""
    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", dataset_id=903)
    run("nnUNetv2_plan_and_preprocess", "-d", 903, "-pl", "MISSUPlannerCPU", "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    return name


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

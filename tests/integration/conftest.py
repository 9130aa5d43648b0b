"""A tiny dataset that has gone through nnU-Net's own commands, for the tests of the commands that follow."""

from pathlib import Path

import pytest
from commands import run
from tiny_dataset import write_raw_dataset


@pytest.fixture(scope="session")
def planned(nnunet_folders: Path) -> str:
    """Name of Dataset903, planned for MISSU on a CPU and preprocessed."""
    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", dataset_id=903)
    run("nnUNetv2_plan_and_preprocess", "-d", 903, "-pl", "MISSUPlannerCPU", "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    return name

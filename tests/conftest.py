"""Settings for the whole suite, and a tiny dataset that has gone through nnU-Net's own planning and preprocessing."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch and nnU-Net are imported, which read them then; no worker processes where none are needed.
os.environ["OMP_NUM_THREADS"] = "1"  # tensors are tiny here
os.environ["nnUNet_n_proc_DA"] = "0"
os.environ["nnUNet_def_n_proc"] = "1"
os.environ["MATPLOTLIBRC"] = str(Path(__file__).parent / "support" / "matplotlibrc")

settings.register_profile("default", deadline=None, max_examples=20)
settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture(scope="session", autouse=True)
def nnunet_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nnU-Net's three, which the environment names in all tests."""
    root = tmp_path_factory.mktemp("nnunet")
    for name in NNUNET_FOLDERS:
        (root / name).mkdir()
        os.environ[name] = str(root / name)
    return root


@pytest.fixture(scope="session")
def tiny_dataset(nnunet_folders: Path) -> str:
    """Name of a small labelled 3D dataset with its fingerprint extracted."""
    from forked import run
    from tiny_dataset import write_raw_dataset

    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", dataset_id=901)
    run("nnUNetv2_extract_fingerprint", "-d", 901, "-np", 1)
    return name


@pytest.fixture(scope="session")
def planned(nnunet_folders: Path) -> str:
    """Name of a small dataset, 903, planned (nnUNetMISSUPlansCPU, made narrow) and preprocessed by nnU-Net's command.

    It has an ignore label, so that there is a teacher in training.
    """
    from forked import run
    from narrow_plans import narrow
    from tiny_dataset import LABELS, write_raw_dataset

    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", dataset_id=903, labels=LABELS | {"ignore": 3})
    run("nnUNetv2_plan_and_preprocess", "-d", 903, "-pl", "MISSUPlannerCPU", "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    narrow(nnunet_folders / "nnUNet_preprocessed" / name / "nnUNetMISSUPlansCPU.json")
    return name


@pytest.fixture(scope="session")
def model(tiny_dataset: str) -> Path:
    """Folder of a model of the tiny dataset, with checkpoints of two folds."""
    from trained_model import write_model

    return write_model(tiny_dataset)


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The Decathlon's Task04_Hippocampus, where it is present."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MISSU_TEST_DATA", beside)) / "Task04_Hippocampus"
    if not folder.is_dir():
        pytest.skip("no Task04_Hippocampus: set MISSU_TEST_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="module")
def missu_checkpoint(nnunet_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of MISSUTrainer: three stages, one channel, three classes."""
    from checkpoints import dataset_json, initialized, saved, tiny_plans, train_epoch

    from missu_nnunet.training.trainer import MISSUTrainer

    trainer = initialized(MISSUTrainer, tiny_plans(), dataset_json())
    train_epoch(trainer)
    return saved(trainer, tmp_path_factory.mktemp("missu") / "checkpoint_final.pth")

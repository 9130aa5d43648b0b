"""Weights that go elsewhere: to an environment with nothing but this package, and to other plans."""

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from checkpoints import DATASET, initialized, saved
from commands import PLANS
from commands import run as run_process
from forked import run, start, wait_for
from narrow_plans import narrow
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_dataset import REGIONS, write_raw_dataset
from torch import Tensor

from missu_nnunet.architecture.configuration import MISSU_KEYS
from missu_nnunet.hyperparameters import Hyperparameters
from missu_nnunet.nnunet.checkpoint import read_checkpoint
from missu_nnunet.weights.inspection import inspect_file

REPOSITORY = Path(__file__).parents[2]
OTHER = 905
CONTINUE = "MISSUTrainer_1epochs_1iters"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a new environment: this package and nnU-Net installed into it, their dependencies borrowed."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q")
    wanted = (REPOSITORY, f"nnunetv2=={version('nnunetv2')}")
    subprocess.run([*map(str, (*pip, "--no-deps", "--ignore-installed", *wanted))], check=True)
    return folder / "bin"


def test_model_predicts_the_same_in_a_fresh_environment(
    fold: Path, planned: str, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, plans, configuration = fold.parent.name.split("__")
    model = ("-d", 903, "-c", configuration, "-tr", trainer, "-p", plans, "-f", 0)
    images = Path(os.environ["nnUNet_raw"]) / planned / "imagesTs"
    predict = ("-i", images, *model, "-device", "cpu", "-npp", 1, "-nps", 1)
    run("nnUNetv2_predict", *predict, "-o", tmp_path / "here")
    run("nnUNetv2_export_model_to_zip", *model, "-o", tmp_path / "model.zip")
    assert [inspection.trainer for inspection in inspect_file(tmp_path / "model.zip")] == [trainer]

    for variable in ("PYTHONPATH", "nnUNet_extTrainer", "nnUNet_raw", "nnUNet_preprocessed", "MISSU_SEED"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "there" / "results"))
    monkeypatch.chdir(tmp_path)
    found = run_process(fresh / "python", "-c", "import missu_nnunet, nnunetv2; print(missu_nnunet, nnunetv2)")
    assert found.count(str(fresh.parent)) == 2
    run_process(fresh / "nnUNetv2_install_pretrained_model_from_zip", tmp_path / "model.zip")
    run_process(fresh / "nnUNetv2_predict", *predict, "-o", tmp_path / "there")
    for case in ("case_000.nii.gz", "case_001.nii.gz"):
        here, there = (sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / place / case)) for place in ("here", "there"))
        assert np.array_equal(here, there)
        assert here.any()


@pytest.fixture(scope="module")
def other(nnunet_folders: Path) -> Path:
    """Plans of a dataset with more channels, regions instead of labels, and larger images; it is preprocessed."""
    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", OTHER, REGIONS, shape=(24, 28, 24), channels=2)
    planning = ("-d", OTHER, "-pl", "MISSUPlannerCPU", "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    run("nnUNetv2_plan_and_preprocess", *planning)
    file = nnunet_folders / "nnUNet_preprocessed" / name / f"{PLANS}.json"
    narrow(file)
    return file


def trained_from(weights: Path, dataset: int, plans: Path, log: Path) -> dict[str, Tensor]:
    """The network after one step of a training that began with the weights."""
    names = (CONTINUE, plans.stem, "3d_fullres")
    final = Path(os.environ["nnUNet_results"]) / plans.parent.name / "__".join(names) / "fold_0/checkpoint_final.pth"
    train = ("nnUNetv2_train", dataset, "3d_fullres", 0, "-tr", CONTINUE, "-p", plans.stem, "-device", "cpu")
    process = start(*train, "-pretrained_weights", weights, log=log)
    wait_for(final, process, log)
    process.kill()  # its validation is not needed
    process.join()
    return read_checkpoint(final, "it")["network_weights"]


def assert_one_step_apart(weights: dict[str, Tensor], pretrained: dict[str, Tensor]) -> None:
    """An AdamW step moves no weight by more than the learning rate and a little decay; new ones are far away."""
    for key, weight in weights.items():
        if ".seg_layers." not in key:
            assert (weight - pretrained[key]).abs().max() < 1.1 * Hyperparameters().initial_lr, key


def test_training_starts_from_weights_adapted_to_another_dataset(fold: Path, other: Path, tmp_path: Path) -> None:
    adapted = tmp_path / "adapted.pth"
    report = run("missu", "weights", "adapt", fold / "checkpoint_final.pth", adapted, "--plans", other)
    assert "input channels: 1 became 2" in report
    before, after = (read(file)["configurations"]["3d_fullres"] for file in (fold.parent / "plans.json", other))
    assert before["patch_size"] != after["patch_size"]
    pretrained = read_checkpoint(adapted, "it")["network_weights"]
    assert_one_step_apart(trained_from(adapted, OTHER, other, tmp_path / "log.txt"), pretrained)


def test_training_starts_from_a_stock_checkpoint(planned: str, nnunet_folders: Path, tmp_path: Path) -> None:
    file = nnunet_folders / "nnUNet_preprocessed" / planned / f"{PLANS}.json"
    plans = read(file) | {"dataset_name": DATASET}
    plans["configurations"] = {"3d_fullres": plans["configurations"]["3d_fullres"]}
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    for key in MISSU_KEYS:
        del architecture["arch_kwargs"][key]
    stock = saved(initialized(nnUNetTrainer, plans, read(file.with_name("dataset.json"))), tmp_path / "stock.pth")
    warm = tmp_path / "warm.pth"
    report = run("missu", "weights", "from-nnunet", stock, warm, "--plans", file)
    assert "start anew: bottleneck" in report
    weights = trained_from(warm, 903, file, tmp_path / "log.txt")
    assert_one_step_apart(weights, read_checkpoint(warm, "it")["network_weights"])
    theirs = read_checkpoint(stock, "it")["network_weights"]
    assert_one_step_apart({key: weights[key] for key in theirs if key.startswith("encoder.")}, theirs)


def read(file: Path) -> dict:
    return json.loads(file.read_text())

"""Trainings that begin where another ended, by nnU-Net's own commands."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from commands import PLANS
from forked import run, start, wait_for
from tiny_dataset import write_raw_dataset

from missu_nnunet.hyperparameters import SEED_VARIABLE
from missu_nnunet.nnunet.checkpoint import read_checkpoint

SMALL, MOVED = f"{PLANS}Small", f"{PLANS}Moved"
OTHER = 907
LABELS = {"background": 0, "core": 1, "rim": 2, "shell": 3}
"""Those of the tiny datasets in another order, and one more."""


def plan_file(dataset: str, plans: str) -> Path:
    return Path(os.environ["nnUNet_preprocessed"]) / dataset / f"{plans}.json"


def fold_folder(dataset: str, trainer: str, plans: str) -> Path:
    return Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__3d_fullres" / "fold_0"


def trained(dataset: str, trainer: str, plans: str, log: Path, *options: object) -> Path:
    """The checkpoint of fold 0, without waiting for its validation."""
    final = fold_folder(dataset, trainer, plans) / "checkpoint_final.pth"
    train = ("nnUNetv2_train", dataset, "3d_fullres", 0, "-tr", trainer, "-p", plans, "-device", "cpu", *options)
    process = start(*train, log=log)
    wait_for(final, process, log)
    process.kill()
    process.join()
    return final


def first_loss(checkpoint: Path) -> float:
    """The mean training loss of the first epoch, which is of one step: the loss before anything is learned."""
    return float(read_checkpoint(checkpoint, "it")["logging"]["train_losses"][0])


@pytest.fixture(scope="module", autouse=True)
def seeded() -> Iterator[None]:
    """Seeds the trainings: the loss of a few patches varies by as much as it is to fall."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SEED_VARIABLE, "0")
        yield


@pytest.fixture(scope="module")
def small(planned: str) -> str:
    """Name of the tiny dataset, which has plans for a network that learns it in seconds."""
    plans = json.loads(plan_file(planned, PLANS).read_text()) | {"plans_name": SMALL}
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [8, 16, 16]
    kwargs["transformer"] |= {"embedding_dim": 16, "depth": 1, "num_heads": 1, "mlp_dim": 16}
    plan_file(planned, SMALL).write_text(json.dumps(plans))
    return planned


@pytest.fixture(scope="module")
def pretrained(small: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has learned the tiny dataset's classes."""
    return trained(small, "MISSUTrainer_5epochs_25iters", SMALL, tmp_path_factory.mktemp("pretrained") / "log.txt")


@pytest.fixture(scope="module")
def other(small: str, nnunet_folders: Path) -> str:
    """Name of a dataset that has the classes under other labels, and the plans of the tiny dataset."""
    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", OTHER, LABELS)
    for file in (nnunet_folders / "nnUNet_raw" / name / "labelsTr").iterdir():
        image = sitk.ReadImage(str(file))
        array = np.array([0, LABELS["shell"], LABELS["core"]], np.uint8)[sitk.GetArrayFromImage(image)]
        array[0, :2] = LABELS["rim"]
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    run("nnUNetv2_extract_fingerprint", "-d", OTHER, "-np", 1)
    run("nnUNetv2_plan_experiment", "-d", OTHER, "-pl", "MISSUPlannerCPU")
    run("nnUNetv2_move_plans_between_datasets", "-s", small, "-t", name, "-sp", SMALL, "-tp", MOVED)
    run("nnUNetv2_preprocess", "-d", OTHER, "-plans_name", MOVED, "-c", "3d_fullres", "-np", 1)
    return name


def test_a_start_with_kept_outputs_has_a_far_lower_loss_than_a_fresh_one(
    pretrained: Path, other: str, tmp_path: Path
) -> None:
    adapted = tmp_path / "adapted.pth"
    report = run("missu", "weights", "adapt", pretrained, adapted, "--plans", plan_file(other, MOVED))
    assert "classes that keep their outputs: background, core, shell\n" in report
    assert "classes that start anew: rim\n" in report

    fresh, continued = "MISSUTrainer_1epochs_1iters", "MISSUTrainer_2epochs_1iters"
    folder = fold_folder(other, continued, MOVED)
    folder.mkdir(parents=True)
    shutil.copy(adapted, folder / "checkpoint_latest.pth")
    log = tmp_path / "log.txt"
    first = first_loss(trained(other, fresh, MOVED, log))
    after = first_loss(trained(other, continued, MOVED, log, "--c"))
    assert after < first - 0.5

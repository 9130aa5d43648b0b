"""The whole chain through nnU-Net's own commands, with an interruption, on a tiny dataset."""

import json
import os
from pathlib import Path

import pytest
import torch
from commands import PLANS, TRAINER, start
from forked import run


def test_training_goes_on_after_a_kill_with_the_teachers(fold: Path) -> None:
    first, second = sorted(fold.glob("training_log*.txt"), key=lambda file: file.stat().st_mtime)
    assert "Epoch 0\n" in first.read_text().replace(" \n", "\n")
    assert "Epoch 0\n" not in second.read_text().replace(" \n", "\n")
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 4
    assert len(checkpoint["logging"]["kd_loss"]) == 4
    assert checkpoint["missu"]["teacher_weights"]


def test_an_input_error_in_training_is_one_line_and_exit_code_2(planned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISSU_SEED", "x")
    process = start("nnUNetv2_train", 903, "3d_fullres", 0, "-tr", TRAINER, "-p", PLANS, "-device", "cpu")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("missu: MISSU_SEED='x': expected a whole number")


def test_validation_was_scored(fold: Path) -> None:
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"1", "2"}


def test_prediction_needs_no_filter_and_is_scored(fold: Path, planned: str, tmp_path: Path) -> None:
    raw = Path(os.environ["nnUNet_raw"]) / planned
    run(
        *("nnUNetv2_predict", "-i", raw / "imagesTs", "-o", tmp_path, "-d", 903, "-c", "3d_fullres", "-f", 0),
        *("-tr", TRAINER, "-p", PLANS, "-device", "cpu", "-npp", 1, "-nps", 1),
    )
    assert sorted(file.name for file in tmp_path.glob("*.nii.gz")) == ["case_000.nii.gz", "case_001.nii.gz"]
    references = tmp_path / "references"
    references.mkdir()
    for file in tmp_path.glob("*.nii.gz"):
        (references / file.name).symlink_to(raw / "labelsTr" / file.name)
    scores = tmp_path / "scores.json"
    run(
        *("nnUNetv2_evaluate_folder", references, tmp_path, "-djfile", raw / "dataset.json"),
        *("-pfile", fold.parent / "plans.json", "-o", scores, "-np", 1),
    )
    assert 0 <= json.loads(scores.read_text())["foreground_mean"]["Dice"] <= 1


def test_stock_trainer_trains_a_missu_plan(planned: str, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MISSU without distillation, by unmodified nnU-Net: its trainers know no shorter run than one epoch of 250."""
    trainers = nnunet_folders / "trainers"
    trainers.mkdir()
    (trainers / "short.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerShort(nnUNetTrainer):\n"
        "    def __init__(self, plans, configuration, fold, dataset_json, device):\n"
        "        super().__init__(plans, configuration, fold, dataset_json, device)\n"
        "        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1\n"
    )
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers))
    run("nnUNetv2_train", 903, "3d_fullres", 0, "-tr", "nnUNetTrainerShort", "-p", PLANS, "-device", "cpu")

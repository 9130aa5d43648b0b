import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import dataset_json, initialized, saved, tiny_plans, train_epoch, write_plans
from huggingface_hub import ModelCard

from missu_nnunet.errors import InputError
from missu_nnunet.report.model_card import model_card, validation_dice
from missu_nnunet.training.trainer import MISSUTrainer

SCORES = {"case_0": (0.8, 0.6), "case_1": (0.9, float("nan"))}


@pytest.fixture
def model(nnunet_folders: Path, tmp_path: Path) -> Path:
    """A trained model with the scores of one fold."""
    folder = tmp_path / "Dataset904_Checkpoints" / "MISSUTrainer__nnUNetPlans__3d_fullres"
    trainer = initialized(MISSUTrainer, tiny_plans(), dataset_json())
    train_epoch(trainer)
    write_plans(folder, tiny_plans(), dataset_json())
    saved(trainer, folder / "fold_0" / "checkpoint_final.pth")
    cases = [
        {"prediction_file": f"{case}.nii.gz", "metrics": {"1": {"Dice": shell}, "2": {"Dice": core}}}
        for case, (shell, core) in SCORES.items()
    ]
    validation = folder / "fold_0" / "validation"
    validation.mkdir()
    (validation / "summary.json").write_text(json.dumps({"metric_per_case": cases}))
    return folder


def test_the_card_says_what_the_files_say(model: Path) -> None:
    (model / "calibration.json").write_text('{"temperature": 1.5}')
    card = ModelCard(model_card(model))
    assert card.data.library_name == "nnunetv2"
    scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert scores == {"Dice, shell": 0.85, "Dice, core": 0.6}
    for text in (
        *("# Model Card for Dataset904_Checkpoints, MISSUTrainer", "| shell | 0.8500 | 2 |", "| core | 0.6000 | 1 |"),
        *("| mean | 0.7250 | |", "temperature 1.500", "no medical device", "wang2023missu", "(2 cases)"),
        *("3d_fullres, patch 16 × 16 × 16", "(1 epoch", "**License:** [More Information Needed]"),
    ):
        assert text in card.content, text


def test_a_model_trained_on_all_cases_is_one_of_missu_too(model: Path) -> None:
    (model / "fold_0").rename(model / "fold_all")
    card = ModelCard(model_card(model))
    assert "MISSU" in card.data.tags
    assert "all (1 epoch)" in card.content
    assert "No fold has been validated." in card.content


def test_a_stock_model_is_not_called_one_of_missu(model: Path) -> None:
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save({key: value for key, value in torch.load(file, weights_only=False).items() if key != "missu"}, file)
    card = ModelCard(model_card(model))
    assert "MISSU" not in card.data.tags
    assert "trained on Dataset904_Checkpoints." in card.content
    assert "wang2023missu" not in card.content
    assert "TransUNet" not in card.content


def test_nothing_private_is_told(model: Path) -> None:
    (model / "fold_0" / "debug.json").write_text(json.dumps({"hostname": "secret-host", "torch_version": "2.9"}))
    card = model_card(model)
    assert "secret-host" not in card
    assert str(model.parent) not in card


def test_without_validation_and_of_another_folder(model: Path, tmp_path: Path) -> None:
    (model / "fold_0" / "validation" / "summary.json").unlink()
    assert "No fold has been validated." in model_card(model)
    with pytest.raises(InputError, match="expected a trained model's folder"):
        model_card(tmp_path)


def test_a_region_may_have_one_label(model: Path) -> None:
    from missu_nnunet.nnunet.dataset import read_dataset

    description = json.loads((model / "dataset.json").read_text())
    description |= {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
    (model / "dataset.json").write_text(json.dumps(description))
    metrics = {"(1, 2)": {"Dice": 0.8}, "(2,)": {"Dice": 0.6}}  # nnU-Net's keys
    case = {"prediction_file": "case_0.nii.gz", "metrics": metrics}
    summary = model / "fold_0" / "validation" / "summary.json"
    summary.write_text(json.dumps({"metric_per_case": [case]}))
    assert validation_dice(model, read_dataset(model)) == {"whole": [0.8], "core": [0.6]}
    case["metrics"].pop("(2,)")
    summary.write_text(json.dumps({"metric_per_case": [case]}))
    with pytest.raises(InputError, match=r"a case has no scores of label 2; score the segmentations again"):
        validation_dice(model, read_dataset(model))


def test_a_damaged_summary_is_named(model: Path) -> None:
    from missu_nnunet.nnunet.dataset import read_dataset

    dataset = read_dataset(model)
    assert np.isnan(validation_dice(model, dataset)["core"]).sum() == 1
    summary = model / "fold_0" / "validation" / "summary.json"
    summary.write_text('{"metric_per_case": [3]}')
    with pytest.raises(InputError, match="expected an object; score the segmentations again"):
        validation_dice(model, dataset)

"""Scores from folders as nnU-Net lays them out, and every way in which folders do not fit together."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.folders import evaluate_folders
from missu_nnunet.evaluation.protocols import NNUNET
from missu_nnunet.evaluation.results import arm_names, gather_results
from missu_nnunet.nnunet.dataset import read_dataset

LABELS = {"background": 0, "head": 1, "tail": 2}


def write_cases(folder: Path, cases: str, seed: int, wrong: float = 0.0) -> None:
    """A segmentation per letter; the share ``wrong`` of its voxels is background instead."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        labels = np.random.default_rng(ord(case)).integers(0, 3, (4, 6, 6), np.uint8)
        labels[np.random.default_rng(seed + ord(case)).random(labels.shape) < wrong] = 0
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / f"{case}.nii.gz"))


def write_dataset_json(folder: Path, labels: dict = LABELS) -> None:
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def references(tmp_path):
    write_cases(tmp_path / "gt_segmentations", "abcd", 0)
    return tmp_path / "gt_segmentations"


@pytest.fixture
def models(tmp_path, references):
    """Two models with two folds each, as after nnUNetv2_train."""
    folders = []
    for seed, trainer in enumerate(("MISSUTrainer", "nnUNetTrainer")):
        model = tmp_path / f"{trainer}__nnUNetPlans__3d_fullres"
        for fold, cases in enumerate(("bd", "ac")):
            validation = model / f"fold_{fold}" / "validation"
            write_cases(validation, cases, seed, 0.1 + 0.1 * seed)
            case = {"reference_file": str(references / f"{cases[0]}.nii.gz"), "metrics": {}}
            (validation / "summary.json").write_text(json.dumps({"metric_per_case": [case]}))
        write_dataset_json(model)
        folders.append(model)
    return folders


def test_models_are_all_their_folds(models, references):
    results = gather_results(models, NNUNET, metrics=["dice", "hd95"])
    assert results.folders == {"MISSUTrainer": models[0], "nnUNetTrainer": models[1]}
    assert results.classes == ("head", "tail")
    assert [list(arm) for arm in results.arms.values()] == [list("abcd")] * 2
    fold = evaluate_folders(
        models[1] / "fold_1" / "validation", references, NNUNET, dataset=read_dataset(models[0]), chill=True
    )
    arrays = results.scores
    assert arrays["hd95"]["MISSUTrainer"].shape == (4, 2)
    # Rows are the cases a, b, c, d; the second fold has a and c.
    assert arrays["dice"]["nnUNetTrainer"][2].tolist() == [fold.cases["c"][name]["dice"] for name in ("head", "tail")]


def test_folds_and_validation_folders(models):
    folds = [model / "fold_0" for model in models]
    validations = [fold / "validation" for fold in folds]
    by_fold, by_validation = (gather_results(folders, NNUNET) for folders in (folds, validations))
    assert by_fold.arms == by_validation.arms
    assert list(by_fold.arms["MISSUTrainer"]) == ["b", "d"]
    assert by_fold.classes == ("head", "tail")


def test_fold_all_is_left_out(models):
    write_cases(models[0] / "fold_all" / "validation", "abcd", 5)
    assert list(gather_results(models, NNUNET).arms["MISSUTrainer"]) == list("abcd")


def test_prediction_folders_with_reference(tmp_path, references):
    for seed, name in enumerate(("one", "other")):
        write_cases(tmp_path / name, "abc", seed, 0.1)
    results = gather_results([tmp_path / "one", tmp_path / "other"], NNUNET, references=references)
    assert list(results.arms) == ["one", "other"]
    assert results.classes == ("1", "2")


def test_a_class_that_a_folds_references_lack_is_undefined(models, references):
    for model in models:
        (model / "dataset.json").unlink()
    for folder in (references, *(model / "fold_0" / "validation" for model in models)):
        for case in "bd":
            image = np.ones((4, 6, 6), np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / f"{case}.nii.gz"))
    results = gather_results(models, NNUNET)
    assert results.classes == ("1", "2")
    undefined = np.isnan(results.scores["dice"]["MISSUTrainer"])
    assert undefined.tolist() == [[False, False], [False, True], [False, False], [False, True]]
    assert "2" not in results.arms["MISSUTrainer"]["b"]
    assert not math.isnan(results.arms["MISSUTrainer"]["b"]["1"]["dice"])


def test_names_tell_arms_apart(tmp_path):
    plans = [Path("results/T__P__c/fold_0"), Path("results/T__Q__c/fold_0")]
    assert arm_names(plans) == ["T__P__c", "T__Q__c"]
    assert arm_names([Path("T__P__c"), Path("predictions")]) == ["T", "predictions"]
    folds = [Path("/T__P__c/fold_0"), Path("/T__P__c/fold_1")]
    assert arm_names(folds) == ["fold_0", "fold_1"]
    assert arm_names([Path("/a/x"), Path("/b/x")]) == ["/a/x", "/b/x"]


def missing_case(models, references):
    (models[1] / "fold_1" / "validation" / "c.nii.gz").unlink()


def no_summary(models, references):
    (models[1] / "fold_1" / "validation" / "summary.json").unlink()


def broken_summary(models, references):
    (models[1] / "fold_1" / "validation" / "summary.json").write_text('{"metric_per_case": []}')


def moved_references(models, references):
    references.rename(references.with_name("elsewhere"))


def other_labels(models, references):
    write_dataset_json(models[1], {"background": 0, "head": 1, "body": 2})


def case_twice(models, references):
    write_cases(models[0] / "fold_0" / "validation", "a", 1)


def unfinished(models, references):
    for file in (models[0] / "fold_1" / "validation").glob("*.nii.gz"):
        file.unlink()


def gone(models, references):
    models[1].rename(models[1].with_name("renamed"))


def only_background(models, references):
    for folder in (references, *(path for model in models for path in model.glob("fold_*/validation"))):
        for file in folder.glob("*.nii.gz"):
            sitk.WriteImage(sitk.Image(6, 6, 4, sitk.sitkUInt8), str(file))
    for model in models:
        (model / "dataset.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing_case, r"nnUNetTrainer__\S+: no segmentation of c\.nii\.gz, which another arm has"),
        (no_summary, r"fold_1/validation/summary\.json: no such file.*--reference"),
        (broken_summary, r"summary\.json: .*does not name a reference.*--reference"),
        (moved_references, r"names references in \S+gt_segmentations, which is not there"),
        (other_labels, r"nnUNetTrainer__\S+: its dataset\.json has other labels than that of \S+; .*--dataset"),
        (case_twice, r"fold_1/validation: a\.nii\.gz is in another fold too"),
        (unfinished, r"fold_1/validation: no segmentation found, expected files ending in \.nii\.gz"),
        (gone, r"nnUNetTrainer__\S+: no such folder"),
        (only_background, r"gt_segmentations: only background.*--dataset"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(models, references, spoil, message):
    spoil(models, references)
    with pytest.raises(InputError, match=message) as error:
        gather_results(models, NNUNET)
    assert "\n" not in str(error.value)


def test_an_arm_given_twice(models):
    with pytest.raises(InputError, match="given twice"):
        gather_results([models[0], models[0] / "fold_0" / ".."], NNUNET)

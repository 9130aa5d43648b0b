"""Scores from folders as nnU-Net lays them out, and every way in which folders do not fit together."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.comparison import compare_arms
from missu_nnunet.evaluation.folders import evaluate_folders
from missu_nnunet.evaluation.protocols import NNUNET
from missu_nnunet.evaluation.results import arm_names, comparison_content, gather_results, group_seeds
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
    assert {arm: run.folder for arm, run in results.first_runs.items()} == {
        "MISSUTrainer": models[0],
        "nnUNetTrainer": models[1],
    }
    assert results.classes == ("head", "tail")
    assert [list(run.cases) for run in results.runs] == [list("abcd")] * 2
    fold = evaluate_folders(
        models[1] / "fold_1" / "validation", references, NNUNET, dataset=read_dataset(models[0]), chill=True
    )
    arrays = results.mean_scores
    assert arrays["hd95"]["MISSUTrainer"].shape == (4, 2)
    # Rows are the cases a, b, c, d; the second fold has a and c.
    assert arrays["dice"]["nnUNetTrainer"][2].tolist() == [fold.cases["c"][name]["dice"] for name in ("head", "tail")]


def test_folds_and_validation_folders(models):
    folds = [model / "fold_0" for model in models]
    validations = [fold / "validation" for fold in folds]
    by_fold, by_validation = (gather_results(folders, NNUNET) for folders in (folds, validations))
    assert [run.cases for run in by_fold.runs] == [run.cases for run in by_validation.runs]
    assert by_fold.cases == ["b", "d"]
    assert by_fold.classes == ("head", "tail")


def test_fold_all_is_left_out(models):
    write_cases(models[0] / "fold_all" / "validation", "abcd", 5)
    assert gather_results(models, NNUNET).cases == list("abcd")


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
    undefined = np.isnan(results.mean_scores["dice"]["MISSUTrainer"])
    assert undefined.tolist() == [[False, False], [False, True], [False, False], [False, True]]
    cases = results.mean_cases("MISSUTrainer")
    assert "2" not in cases["b"]
    assert not math.isnan(cases["b"]["1"]["dice"])


def test_names_tell_arms_apart(tmp_path):
    plans = [Path("results/T__P__c/fold_0"), Path("results/T__Q__c/fold_0")]
    assert arm_names(plans) == ["T__P__c", "T__Q__c"]
    assert arm_names([Path("T__P__c"), Path("predictions")]) == ["T", "predictions"]
    folds = [Path("/T__P__c/fold_0"), Path("/T__P__c/fold_1")]
    assert arm_names(folds) == ["fold_0", "fold_1"]
    assert arm_names([Path("/a/x"), Path("/b/x")]) == ["/a/x", "/b/x"]


@pytest.fixture
def seeds(models, tmp_path):
    """Two seeds of the first arm, another training of it, and one seed of the second arm."""

    def placed(model, seed):
        return shutil.copytree(model, tmp_path / "results" / f"seed_{seed}" / "Dataset001_X" / model.name)

    folders = [placed(models[0], seed) for seed in (10, 2)]
    write_cases(folders[0] / "fold_0" / "validation", "bd", 7, 0.4)
    return [*folders, models[0], placed(models[1], 2)]


def test_seeds_of_a_model_are_one_arm(seeds, tmp_path):
    results = gather_results(seeds, NNUNET)
    place = f"{tmp_path}/results/seed_{{2,10}}/Dataset001_X/MISSUTrainer__nnUNetPlans__3d_fullres"
    assert list(results.arms) == [place, str(seeds[2]), str(seeds[3])]
    assert [[run.seed for run in runs] for runs in results.arms.values()] == [[2, 10], [None], [2]]
    scores = results.scores["dice"][place]
    assert scores.shape == (2, 4, 2)
    assert scores[0].tolist() == results.scores["dice"][str(seeds[2])][0].tolist()
    assert (scores[1, [1, 3]] < scores[0, [1, 3]]).all()  # the cases b and d
    assert results.mean_cases(place)["b"]["tail"]["dice"] == pytest.approx(scores[:, 1, 1].mean())
    summary = results.summary()["dice"][place]["tail"]
    assert summary["seeds"] == 2
    assert summary["seed_std"] == pytest.approx(scores[..., 1].mean(axis=1).std(ddof=1))
    assert math.isnan(results.summary()["dice"][str(seeds[3])]["tail"]["seed_std"])
    content = comparison_content(results, compare_arms(results.scores, results.classes))
    assert content["arms"][place] == place
    assert content["seeds"][place]["10"] == {"folder": str(seeds[0]), "cases": results.arms[place][1].cases}
    assert list(content["seeds"]) == [place, str(seeds[3])]


def test_names_of_arms_with_seeds_are_those_of_others(seeds):
    arms = group_seeds([*seeds[:2], seeds[3]])
    assert arms == {"MISSUTrainer": {2: seeds[1], 10: seeds[0]}, "nnUNetTrainer": {2: seeds[3]}}


def test_a_folder_called_like_a_seed_makes_no_arm_of_predictions(tmp_path):
    folders = [tmp_path / f"seed_{seed}" / "a" / "predictions" for seed in (0, 1)]
    assert len(group_seeds(folders)) == 2


def missing_case(models, references):
    (models[1] / "fold_1" / "validation" / "c.nii.gz").unlink()


def no_summary(models, references):
    (models[1] / "fold_1" / "validation" / "summary.json").unlink()


def broken_summary(models, references):
    (models[1] / "fold_1" / "validation" / "summary.json").write_text('{"metric_per_case": []}')


def moved_references(models, references):
    references.rename(references.with_name("elsewhere"))


def other_references(models, references):
    fewer = references.with_name("fewer_labels")
    write_cases(fewer, "ac", 0, 0.5)
    summary = models[1] / "fold_1" / "validation" / "summary.json"
    summary.write_text(summary.read_text().replace(references.name, fewer.name))


def other_labels(models, references):
    write_dataset_json(models[1], {"background": 0, "head": 1, "body": 2})


def a_decathlon_tasks_dataset(models, references):
    write_dataset_json(models[1], {"0": "background", "1": "head"})


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
        (other_references, r"fewer_labels/a\.nii\.gz: differs from \S+gt_segmentations/a\.nii\.gz, .* --reference"),
        (other_labels, r"nnUNetTrainer__\S+: its dataset\.json has other labels than that of \S+; .*--dataset"),
        (a_decathlon_tasks_dataset, r"dataset\.json: labels\.0: found 'background'.* with --dataset$"),
        (case_twice, r"fold_1/validation: a\.nii\.gz is in another fold too"),
        (unfinished, r"fold_1/validation: no segmentation found, expected files ending in \.nii\.gz; .* --dataset"),
        (gone, r"nnUNetTrainer__\S+: no such folder"),
        (only_background, r"gt_segmentations: only background.*--dataset"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(models, references, spoil, message):
    spoil(models, references)
    with pytest.raises(InputError, match=message) as error:
        gather_results(models, NNUNET)
    assert "\n" not in str(error.value)


def test_copies_of_the_references_are_the_same(models, references):
    copy = shutil.copytree(references, references.with_name("copy"))
    summary = models[1] / "fold_1" / "validation" / "summary.json"
    summary.write_text(summary.read_text().replace(references.name, copy.name))
    assert gather_results(models, NNUNET).cases == list("abcd")


def test_an_arm_given_twice(models):
    with pytest.raises(InputError, match="given twice"):
        gather_results([models[0], models[0] / "fold_0" / ".."], NNUNET)

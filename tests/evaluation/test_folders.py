"""Whole folders against nnU-Net's own evaluation, and every way in which two folders do not fit together."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.folders import evaluate_folders
from missu_nnunet.evaluation.protocols import BRATS, NNUNET
from missu_nnunet.files import write_csv
from missu_nnunet.nnunet.dataset import read_dataset

SPACING = (0.8, 0.8, 2.5)


def write(path: Path, labels: np.ndarray, spacing=SPACING, origin=(1, 2, 3), direction=None) -> None:
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction:
        image.SetDirection(direction)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path):
    """Three cases with labels 0–2, the third without label 2 on either side."""
    rng = np.random.default_rng(0)
    for case in range(3):
        reference = rng.integers(0, 2 if case == 2 else 3, (5, 8, 9))
        prediction = np.where(rng.random(reference.shape) < 0.8, reference, 0)
        write(tmp_path / "ref" / f"case_{case}.nii.gz", reference)
        write(tmp_path / "pred" / f"case_{case}.nii.gz", prediction)
    return tmp_path / "pred", tmp_path / "ref"


def write_dataset_json(folder: Path, labels: dict, **more) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "head": 1, "tail": 2},
        {"background": 0, "whole": [1, 2], "tail": 2},
        {"background": 0, "head": 1, "ignore": 2},
    ],
)
def test_agrees_with_nnunets_own_evaluation(folders, tmp_path, labels):
    predictions, references = folders
    ignore = labels.get("ignore")
    if ignore:  # a network never predicts it
        for file in predictions.iterdir():
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
            write(file, np.where(array == ignore, 1, array))
    dataset = read_dataset(write_dataset_json(tmp_path / "Dataset001_Test", labels))
    ours = evaluate_folders(predictions, references, NNUNET, dataset=dataset, workers=1)
    regions = list(dataset.regions.values())
    theirs = compute_metrics_on_folder(
        str(references), str(predictions), None, SimpleITKIO(), ".nii.gz", regions, ignore, num_processes=1
    )
    for name, region in dataset.regions.items():
        assert ours.summary()[name]["dice"]["mean"] == pytest.approx(theirs["mean"][region]["Dice"], abs=1e-12)
    assert ours.foreground_mean()["dice"] == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-12)


def test_without_a_dataset_the_references_labels_are_the_classes(folders):
    result = evaluate_folders(*folders, NNUNET, metrics=["dice", "assd"])
    assert dict(result.classes) == {"1": (1,), "2": (2,)}
    assert result.summary()["2"]["dice"]["n"] == 2
    assert result.summary()["2"]["assd"]["median"] > 0


def test_processes_change_nothing(folders):
    one, two = (evaluate_folders(*folders, NNUNET, metrics=["dice", "ravd"], workers=n).cases for n in (1, 2))
    np.testing.assert_equal(one, two)


def test_distances_are_in_mm_of_the_image(folders):
    """The array's axes are z, y, x, the header's x, y, z."""
    predictions, references = folders
    for folder, z in ((predictions, 1), (references, 2)):
        for file in folder.iterdir():
            labels = np.zeros((5, 8, 9))
            labels[z, 4, 4] = 1
            write(file, labels)
    summary = evaluate_folders(predictions, references, NNUNET, metrics=["mssd"]).summary()
    assert summary["1"]["mssd"]["mean"] == pytest.approx(2.5)


@pytest.mark.parametrize("sides", [("pred", "ref"), ("pred",), ("ref",)])
def test_distances_of_a_tiff_volume_are_in_mm_of_the_spacing_beside_it(tmp_path, sides):
    """nnU-Net writes it beside predictions, and needs none beside references."""
    for folder, z in (("pred", 1), ("ref", 2)):
        labels = np.zeros((5, 8, 9), np.uint8)
        labels[z, 4, 4] = 1
        (tmp_path / folder).mkdir()
        if folder in sides:
            Tiff3DIO().write_seg(labels, str(tmp_path / folder / "a.tif"), {"spacing": [2.5, 0.8, 0.8]})
        else:
            tifffile.imwrite(tmp_path / folder / "a.tif", labels)
    dataset = read_dataset(write_dataset_json(tmp_path, {"background": 0, "organ": 1}, file_ending=".tif"))
    folders = tmp_path / "pred", tmp_path / "ref"
    summary = evaluate_folders(*folders, NNUNET, dataset=dataset, metrics=["mssd"]).summary()
    assert summary["organ"]["mssd"]["mean"] == pytest.approx(2.5)

    (tmp_path / sides[0] / "a.json").write_text('{"spacing": [2.5, 0]}')
    with pytest.raises(
        InputError, match=r"a\.json: spacing\.1: found 0, .*; nnU-Net keeps a TIFF volume's spacing there"
    ):
        evaluate_folders(*folders, NNUNET, dataset=dataset)


def test_brats_labels_of_the_organisers_or_of_a_dataset(tmp_path):
    theirs, ours = np.zeros((2, 4, 6, 6), int)
    theirs[1, 1:5, 1:5], theirs[2, 2:4, 2:4], theirs[2, 2, 2] = 2, 1, 4
    ours[1, 1:5, 1:5], ours[2, 2:4, 2:4], ours[2, 2, 2] = 1, 2, 3
    for side in ("pred", "ref"):
        write(tmp_path / f"theirs_{side}" / "a.nii.gz", theirs if side == "ref" else np.roll(theirs, 1, axis=2))
        write(tmp_path / f"ours_{side}" / "a.nii.gz", ours if side == "ref" else np.roll(ours, 1, axis=2))
    regions = {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3}
    dataset = read_dataset(write_dataset_json(tmp_path / "Dataset043_BraTS2019", regions))
    from_theirs = evaluate_folders(tmp_path / "theirs_pred", tmp_path / "theirs_ref", BRATS)
    from_ours = evaluate_folders(tmp_path / "ours_pred", tmp_path / "ours_ref", BRATS, dataset=dataset)
    assert from_theirs.cases == from_ours.cases
    assert from_theirs.cases["a"]["ET"]["dice"] == 0
    with pytest.raises(InputError, match=r"found label 3, expected 0, 1, 2, 4; name the dataset .*--dataset"):
        evaluate_folders(tmp_path / "ours_pred", tmp_path / "ours_ref", BRATS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"liver": 1}, r"found label 2, expected 0, 1; name another dataset than \S+dataset\.json with --dataset"),
        ({}, r"dataset\.json: no class but the background, expected some; name another with --dataset"),
    ],
)
def test_a_dataset_that_does_not_fit_is_not_advised_again(folders, tmp_path, labels, message):
    dataset = read_dataset(write_dataset_json(tmp_path / "Dataset001_X", {"background": 0, **labels}))
    with pytest.raises(InputError, match=message):
        evaluate_folders(*folders, NNUNET, dataset=dataset)


def test_json_and_csv_hold_every_value(folders, tmp_path):
    result = evaluate_folders(*folders, NNUNET, metrics=["dice", "hd95"])
    write_csv(result.rows(), tmp_path / "out.csv")
    content = result.content()
    assert math.isnan(content["cases"]["case_2"]["2"]["dice"])
    assert content["summary"]["1"]["dice"]["mean"] == result.summary()["1"]["dice"]["mean"]
    assert content["classes"] == {"1": [1], "2": [2]}
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == 6
    assert float(rows[0]["dice"]) == content["cases"]["case_0"]["1"]["dice"]
    assert next(row for row in rows if row["case"] == "case_2" and row["class"] == "2")["dice"] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": (0.8, 0.8, 2.0)}, "spacing"),
        ({"origin": (1, 2, 4)}, "origin"),
        ({"direction": (-1, 0, 0, 0, 1, 0, 0, 0, 1)}, "direction"),
        ({"labels": np.zeros((5, 8, 8))}, r"shape \(8, 8, 5\) and \(9, 8, 5\)"),
        ({"labels": np.full((5, 8, 9), 7)}, "found label 7, expected 0, 1, 2"),
    ],
)
def test_folders_that_do_not_fit_together(folders, change, message):
    predictions, references = folders
    write(predictions / "case_1.nii.gz", change.pop("labels", np.zeros((5, 8, 9))), **change)
    with pytest.raises(InputError, match=message) as error:
        evaluate_folders(predictions, references, NNUNET)
    assert "case_1" in str(error.value)
    assert "\n" not in str(error.value)


def test_headers_may_round(folders):
    predictions, references = folders
    write(predictions / "case_0.nii.gz", np.ones((5, 8, 9)), (0.80001, 0.8, 2.5), (1.0001, 2, 3))
    assert evaluate_folders(predictions, references, NNUNET).cases["case_0"]["1"]["dice"] > 0


def test_missing_cases(folders):
    predictions, references = folders
    (predictions / "case_1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no prediction for case_1.nii.gz.*--chill"):
        evaluate_folders(predictions, references, NNUNET)
    assert sorted(evaluate_folders(predictions, references, NNUNET, chill=True).cases) == ["case_0", "case_2"]
    (references / "case_2.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no reference for case_2\.nii\.gz"):
        evaluate_folders(predictions, references, NNUNET, chill=True)
    with pytest.raises(InputError, match="no such folder"):
        evaluate_folders(predictions / "nowhere", references, NNUNET)


def test_a_broken_file_is_named(folders):
    predictions, references = folders
    (predictions / "case_1.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"case_1.nii.gz: not a readable image"):
        evaluate_folders(predictions, references, NNUNET)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("side", ["pred", "ref"])
def test_labels_that_are_no_numbers(tmp_path, side, ending):
    labels = np.ones((2, 3, 4), np.float32)
    for folder in ("pred", "ref"):
        (tmp_path / folder).mkdir()
        labels[0, 0, 0] = np.nan if folder == side else 1
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / folder / f"a{ending}"))
    with pytest.raises(InputError, match=rf"{side}/a{ending}: NaN or infinite voxels"):
        evaluate_folders(tmp_path / "pred", tmp_path / "ref", NNUNET)


def test_one_case_in_two_formats(folders):
    for folder in folders:
        write(folder / "case_1.nii", np.ones((5, 8, 9)))
    with pytest.raises(InputError, match=r"pred: case_1\.nii, case_1\.nii\.gz are of one case"):
        evaluate_folders(*folders, NNUNET)

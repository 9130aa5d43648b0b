import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_dataset import LABELS, REGIONS
from validation_folder import SHAPE, write_validation

from missu_nnunet.errors import InputError
from missu_nnunet.prediction.temperature import FILE, read_temperature
from missu_nnunet.weights.calibration import calibrate, find_references, read_reliability


def test_temperature_of_labels_is_found_and_read_again(tmp_path: Path) -> None:
    model, references = write_validation(tmp_path, LABELS)
    assert read_temperature(model) is None
    found = calibrate(model, references)
    assert found.temperature == pytest.approx(3, rel=0.15)
    assert read_temperature(model) == found.temperature
    assert (found.folds, found.cases) == (("0", "1"), 4)
    assert found.likelihoods[1] < found.likelihoods[0]
    written = json.loads((model / FILE).read_text())
    errors = written["expected_calibration_error"]
    assert errors["after"] < errors["before"] / 2
    curves = read_reliability(model)
    for name, curve in curves.items():
        assert curve.share.sum() == pytest.approx(1)
        assert curve.expected_calibration_error == pytest.approx(errors[name])


def test_regions_and_the_ignore_label(tmp_path: Path) -> None:
    model, references = write_validation(tmp_path, REGIONS | {"ignore": 3})
    for file in references.iterdir():  # what is ignored must not matter
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        values[6:] = 3
        sitk.WriteImage(sitk.GetImageFromArray(values), str(file))
    found = calibrate(model, references)
    assert found.temperature > 1.5
    assert found.voxels <= 4 * 6 * 14 * 10


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda model, references: (references / "case_0.nii.gz").unlink(), "case_0.nii.gz: no such file"),
        (lambda model, references: _first(model).write_bytes(b"x"), "case_0.npz: cannot be read"),
        (lambda model, references: _save(model, np.ones((3, 2, 2, 2))), "but its reference has"),
        (lambda model, references: _save(model, np.ones((2, *SHAPE))), "2, 12, 14, 10.*3 classes or regions"),
        (lambda model, references: _save(model, np.full((3, *SHAPE), np.nan)), "values from nan to nan"),
        (lambda model, references: _save(model, np.full((3, *SHAPE), -5.0)), "expected probabilities"),
        (lambda model, references: _save(model, np.ones((3, *SHAPE), int)), "values of type int64"),
        (lambda model, references: _save(model, np.ones((3, *SHAPE), complex)), "type complex128"),
        (lambda model, references: (references / "case_0.nii.gz").write_bytes(b"x"), "case_0.nii.gz: not a readable"),
        (
            lambda model, references: _label(references, np.full(SHAPE, 7)),
            "case_0.nii.gz: found label 7, expected 0, 1",
        ),
        (lambda model, references: _label(references, np.full(SHAPE, 0.5)), "found label 0.5"),
        (lambda model, references: _label(references, np.zeros((2, *SHAPE))), "2 channels, expected a label map"),
        (lambda model, references: (model / "dataset.json").write_text('{"labels": {"a": 0}}'), "is missing"),
        (lambda model, references: _leave_fold_all(model), "probabilities of cases that a fold did not train on"),
        (lambda model, references: (model / "plans.json").unlink(), "plans.json: no such file"),
    ],
)
def test_what_is_missing_or_damaged_is_named(break_it, message: str, tmp_path: Path) -> None:
    model, references = write_validation(tmp_path, LABELS)
    break_it(model, references)
    with pytest.raises(InputError, match=message):
        calibrate(model, references)
    assert not (model / FILE).exists()


def _leave_fold_all(model: Path) -> None:
    shutil.rmtree(model / "fold_1")
    (model / "fold_0").rename(model / "fold_all")


def _first(model: Path) -> Path:
    return model / "fold_0" / "validation" / "case_0.npz"


def _save(model: Path, probabilities: np.ndarray) -> None:
    np.savez(_first(model), probabilities=probabilities)


def _label(references: Path, values: np.ndarray) -> None:
    image = sitk.GetImageFromArray(values.astype(np.float32), isVector=False)
    sitk.WriteImage(image, str(references / "case_0.nii.gz"))


def test_references_without_a_class_are_refused(tmp_path: Path) -> None:
    model, references = write_validation(tmp_path, LABELS | {"ignore": 3})
    for file in references.iterdir():
        sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, 3, np.uint8)), str(file))
    with pytest.raises(InputError, match="all voxels are ignored"):
        calibrate(model, references)


@pytest.mark.parametrize("temperature", [0, -1, "high", None, True, float("inf")])
def test_an_invalid_temperature_is_refused(temperature: object, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"temperature": temperature}))
    with pytest.raises(InputError, match=rf"{FILE}: temperature: found .*; write it anew with missu weights calibrate"):
        read_temperature(tmp_path)


def test_invalid_reliability_curves_are_refused(tmp_path: Path) -> None:
    assert read_reliability(tmp_path) == {}
    odd = '{"confidence": [[1, 2]], "accuracy": 1, "share": 1}'
    for content, message in (
        ('{"temperature": 2}', "the key 'reliability' is missing"),
        ('{"reliability": 3}', "reliability: found 3, expected an object"),
        ('{"reliability": {"before": [{}], "after": []}}', "confidence' is missing"),
        (f'{{"reliability": {{"before": [{odd}], "after": []}}}}', "before.0.confidence: found"),
        ('{"reliability": {"before": [], "after": []}}', "before: found"),
    ):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(InputError, match=f"{FILE}: .*{message}"):
            read_reliability(tmp_path)


def test_references_are_those_of_the_models_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    model = tmp_path / "results" / "Dataset001_A" / "T__P__2d"
    with pytest.raises(InputError, match=r"T__P__2d/plans.json: no such file"):
        find_references(model)
    model.mkdir(parents=True)
    (model / "plans.json").write_text("{}")
    with pytest.raises(InputError, match="Dataset001_A/gt_segmentations: no such folder"):
        find_references(model)
    (tmp_path / "Dataset001_A" / "gt_segmentations").mkdir(parents=True)
    assert find_references(model) == tmp_path / "Dataset001_A" / "gt_segmentations"

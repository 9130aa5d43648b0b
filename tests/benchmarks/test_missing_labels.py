"""The datasets of the study on missing labels: who keeps which labels, and that nobody is scored on what was hidden."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from accuracy import score
from missing_labels import ARMS, FOLDS, FURTHER_ARMS, SETTINGS, MissingLabels, Setting, largest_component, trainer_of

IGNORE = 2
PATIENTS, FRAMES = 12, 2


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two frames of every patient, a cube in each."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(SETTINGS, "Task12_Cubes", Setting("3d_fullres", (2, 2, 2), [8, 8, 8], 2, 2, shrink=2))
    folder = tmp_path / "Task12_Cubes"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    mask = np.zeros((16, 20, 24), np.uint8)
    mask[4:12, 6:16, 6:18] = 1
    for patient in range(PATIENTS):
        for frame in range(FRAMES):
            for part in ("imagesTr", "labelsTr"):
                image = sitk.GetImageFromArray(mask)
                sitk.WriteImage(image, str(folder / part / f"p{patient:02d}_frame{frame}.nii.gz"))
    dataset = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "cube"}}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def labels_of(task: Path, run: int, labelled: int | None = None, slices: int | None = None) -> dict[str, np.ndarray]:
    study = MissingLabels(task.parent / "study", task, labelled, slices)
    study.write_raw(run, all_masks=False)
    folder = study.raw / study.dataset / "labelsTr"
    return {file.name.split(".")[0]: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in folder.iterdir()}


def share_labelled(label: np.ndarray) -> float:
    return float(np.mean(label != IGNORE))


@pytest.mark.parametrize("run", range(FOLDS))
@pytest.mark.parametrize(
    ("question", "least", "most"), [({}, 0.01, 0.2), ({"slices": 4}, 0.25, 0.25), ({"labelled": 2}, 0, 0)]
)
def test_patients_that_are_scored_keep_their_masks(
    question: dict[str, int], least: float, most: float, run: int, task: Path
) -> None:
    labels = labels_of(task, run, **question)
    assert {label.shape for label in labels.values()} == {(8, 10, 12)}
    full = {case for case, label in labels.items() if share_labelled(label) == 1}
    scored = {f"p{patient:02d}_frame{frame}" for patient in range(2 + run, PATIENTS, FOLDS) for frame in range(FRAMES)}
    first = {f"p{patient:02d}_frame{frame}" for patient in range(2) for frame in range(FRAMES)}
    assert full == (scored | first if "labelled" in question else scored)
    assert not scored & first
    for case in labels.keys() - full:
        assert least <= share_labelled(labels[case]) <= most
        assert question or set(np.unique(labels[case])) == {0, 1, IGNORE}


def test_scribbles_are_those_of_the_task_where_it_has_some(task: Path) -> None:
    drawn = labels_of(task, 0)
    (task / "labelsTr").rename(task / "masksTr")
    (task / "labelsTr").mkdir()
    scribble = sitk.GetImageFromArray(np.full((16, 20, 24), IGNORE, np.uint8))
    for file in (task / "masksTr").iterdir():
        sitk.WriteImage(scribble, str(task / "labelsTr" / file.name))
    given = labels_of(task, 0)
    assert share_labelled(given["p00_frame0"]) == 0 < share_labelled(drawn["p00_frame0"])
    assert share_labelled(given["p02_frame0"]) == 1


@pytest.mark.parametrize("arm", ARMS | FURTHER_ARMS)
def test_one_arm_trains_twice_as_long(arm: str) -> None:
    twice = arm == "MISSUTrainerNoDistillation, twice the epochs"
    assert trainer_of(arm, 6) == f"{arm.split(',')[0]}_{12 if twice else 6}epochs_250iters_noTTA"


def test_what_does_not_belong_to_the_largest_object_is_removed_whatever_its_class(tmp_path: Path) -> None:
    fold, references = tmp_path / "fold_0", tmp_path / "references"
    (fold / "validation").mkdir(parents=True)
    references.mkdir()
    dataset = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    (tmp_path / "plans.json").write_bytes((Path(__file__).parents[2] / "plans/nnUNetMISSUPlansPaper.json").read_bytes())
    reference = np.zeros((8, 12, 12), np.uint8)
    reference[2:6, 2:5, 2:8], reference[2:6, 5:8, 2:8] = 1, 2
    prediction = reference.copy()
    prediction[7, 11, 10:], prediction[0, 11, :2] = 1, 2
    for file, array in ((fold / "validation", prediction), (references, reference)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file / "case.nii.gz"))
    assert score(fold, references)["case"][0] < 1
    assert score(largest_component(fold), references)["case"] == (1, 0)

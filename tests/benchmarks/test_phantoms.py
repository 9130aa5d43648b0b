import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import SHAPE, SIDE, distant_cue, fine_edges, write_task
from scipy import ndimage

CUE_END = 80  # pixels; markers lie before, discs behind


@pytest.mark.parametrize("seed", range(5))
def test_discs_of_a_row_have_the_class_of_its_marker(seed: int) -> None:
    image, labels = (array[0] for array in distant_cue(np.random.default_rng(seed)))
    assert not labels[:, :CUE_END].any()
    markers, number = ndimage.label(ndimage.gaussian_filter(image, 1)[:, :CUE_END] > 0.35)
    centres = np.array(ndimage.center_of_mass(markers, markers, range(1, number + 1)))
    assert number >= 5
    # Only the marker tells the class: a ring is dark in its middle, a filled disc is bright there.
    smooth = ndimage.gaussian_filter(image, 1)
    for disc in range(1, ndimage.label(labels)[1] + 1):
        y, _ = ndimage.center_of_mass(ndimage.label(labels)[0] == disc)
        row = centres[np.abs(centres[:, 0] - y) < SIDE / 10]
        middle = smooth[tuple(np.round(row.mean(axis=0)).astype(int))]
        assert {1: middle < 0.5, 2: middle > 0.5}[labels[ndimage.label(labels)[0] == disc][0]]


def test_discs_look_alike() -> None:
    cases = [distant_cue(np.random.default_rng(seed)) for seed in range(20)]
    means = [np.concatenate([image[labels == label] for image, labels in cases]).mean() for label in (1, 2)]
    assert means[0] == pytest.approx(means[1], abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_wall_is_thin_and_closed_around_the_core(seed: int) -> None:
    image, labels = fine_edges(np.random.default_rng(seed))
    assert image.shape == labels.shape == SHAPE
    wall = labels == 1
    assert ndimage.binary_fill_holes(wall)[labels == 2].all()
    # Three voxels of erosion leave nothing of it, though it holds hundreds of voxels.
    assert wall.sum() > 300
    assert not ndimage.binary_erosion(wall, iterations=2).any()


def test_a_task_in_decathlon_format_is_the_same_for_a_seed(tmp_path: Path) -> None:
    folders = [tmp_path / name / "Task091_DistantCue" for name in ("a", "b")]
    for folder, cases in zip(folders, (2, 3), strict=True):
        write_task(folder, distant_cue, ["withRing", "withDisc"], cases, seed=4)
    dataset = json.loads((folders[1] / "dataset.json").read_text())
    assert dataset["labels"] == {"0": "background", "1": "withRing", "2": "withDisc"}
    assert len(dataset["training"]) == 3
    for pair in json.loads((folders[0] / "dataset.json").read_text())["training"]:
        for file in pair.values():
            first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / file))) for folder in folders)
            assert np.array_equal(first, second)

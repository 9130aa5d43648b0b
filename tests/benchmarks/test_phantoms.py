import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import FAR, NEAR, ROWS, SHAPE, SIDE, distant_cue, fine_edges, write_task
from scipy import ndimage


@pytest.mark.parametrize("seed", range(5))
def test_discs_of_a_row_have_the_class_of_its_marker(seed: int) -> None:
    image, labels = (array[0] for array in distant_cue(np.random.default_rng(seed)))
    smooth = ndimage.gaussian_filter(image, 1)
    blobs, number = ndimage.label(smooth < -0.35)
    sizes = ndimage.sum_labels(np.ones_like(blobs), blobs, range(1, number + 1))
    markers = np.array(ndimage.center_of_mass(-smooth, blobs, np.flatnonzero(sizes > 20) + 1))
    assert len(markers) == ROWS
    discs, _ = ndimage.label(labels)
    for y, label in [
        (np.argwhere(discs == disc)[:, 0].mean(), labels[discs == disc][0]) for disc in np.unique(discs)[1:]
    ]:
        (marker,) = markers[np.abs(markers[:, 0] - y) < SIDE / ROWS / 2]
        # Only the marker tells the class: a ring has a hole in its middle, a filled disc does not.
        middle = smooth[tuple(np.round(marker).astype(int))]
        assert {1: middle > -0.5, 2: middle < -0.5}[label]


def test_half_of_the_discs_have_their_marker_near() -> None:
    near = []
    for seed in range(40):
        image, labels = (array[0] for array in distant_cue(np.random.default_rng(seed)))
        discs, number = ndimage.label(labels)
        dark = ndimage.gaussian_filter(image, 1) < -0.35
        for y, x in ndimage.center_of_mass(labels, discs, range(1, number + 1)):
            marker = np.flatnonzero(dark[int(y) - 6 : int(y) + 7].any(axis=0)).mean()
            near.append(x - marker < np.mean([NEAR[1], FAR[0]]))
    assert np.mean(near) == pytest.approx(0.5, abs=0.1)


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

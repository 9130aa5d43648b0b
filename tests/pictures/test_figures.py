"""The pictures of comparisons, predictions and datasets, as files."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib import pyplot as plt

from missu_nnunet.pictures.comparisons import save_comparison
from missu_nnunet.pictures.dataset_cases import DatasetCase, save_dataset_cases
from missu_nnunet.pictures.predictions import save_prediction

LABELS = {"core": (1,), "rim": (2,)}
SHAPE = (12, 16, 14)


def image_of(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing((1.0, 1.0, 2.0)[: array.ndim])
    return image


def labels_of(core: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 4:12, 4:11] = 2
    labels[5:7, 6:10, 6:9] = core
    return labels


@pytest.fixture
def image() -> sitk.Image:
    return image_of(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))


def coloured_pixels(file: Path, columns: int) -> list[int]:
    """The number of pixels that are not grey, by column of the picture's table; without the legend."""
    rgb = plt.imread(file)[..., :3]
    rgb = rgb[: int(0.9 * len(rgb))]
    return [int((np.ptp(part, axis=-1) > 0.1).sum()) for part in np.array_split(rgb, columns, axis=1)]


def test_errors_add_colour_to_the_difference_column_only(image: sitk.Image, tmp_path: Path) -> None:
    counts = []
    for core in (1, 2):  # perfect, and the core taken for the rim
        reference, prediction = image_of(labels_of()), image_of(labels_of(core))
        save_comparison("case", {"MRI": image}, reference, prediction, LABELS, {"core": "(0.5)"}, tmp_path / "c.png")
        counts.append(coloured_pixels(tmp_path / "c.png", 4))
    perfect, wrong = counts
    assert perfect[0] == wrong[0] == 0
    assert perfect[1] == wrong[1] > 0
    assert perfect[3] == 0
    assert wrong[3] > 500


def test_names_with_dollars_are_no_formulas(image: sitk.Image, tmp_path: Path) -> None:
    labels = {"$core": (1,), "a$_{": (2,)}
    segmentation = image_of(labels_of())
    for name in ("case", "$case$^"):
        channels, file = {name: image, f"{name}2": image}, tmp_path / "c.png"
        save_comparison(name, channels, segmentation, segmentation, labels, {"$core": "$x$$y"}, file)
        assert coloured_pixels(file, 4)[1] > 0


def test_empty_segmentations_are_drawn(image: sitk.Image, tmp_path: Path) -> None:
    empty = image_of(np.zeros(SHAPE, np.uint8))
    save_comparison("case", {"MRI": image}, empty, empty, LABELS, {}, tmp_path / "empty.png")
    assert sum(coloured_pixels(tmp_path / "empty.png", 4)) == 0


def test_a_prediction_with_its_uncertainty(image: sitk.Image, tmp_path: Path) -> None:
    for uncertainty, columns in ((None, 2), (image_of(np.full(SHAPE, 0.5, np.float32)), 3)):
        save_prediction("case", {"MRI": image}, image_of(labels_of()), uncertainty, LABELS, tmp_path / "p.png")
        assert coloured_pixels(tmp_path / "p.png", columns)[-1] > 1000


def test_labels_above_255_are_drawn(image: sitk.Image, tmp_path: Path) -> None:
    pictures = []
    for core, rim in ((1, 2), (256, 300)):
        labels = np.array([0, core, rim], np.uint16)[labels_of()]
        segmentation, file = image_of(labels), tmp_path / f"{core}.png"
        save_comparison("case", {"": image}, segmentation, segmentation, {"core": (core,), "rim": (rim,)}, {}, file)
        pictures.append(file.read_bytes())
    assert pictures[0] == pictures[1]


def test_a_2d_prediction(tmp_path: Path) -> None:
    image, labels = image_of(np.arange(224, dtype=np.float32).reshape(16, 14)), image_of(labels_of()[5])
    save_prediction("case", {"photo": image}, labels, None, LABELS, tmp_path / "p.png")
    assert coloured_pixels(tmp_path / "p.png", 2)[1] > 1000


def test_cases_of_a_dataset(image: sitk.Image, tmp_path: Path) -> None:
    cases = [
        DatasetCase("odd", sitk.DICOMOrient(image, "SAR"), None),
        DatasetCase("usual", image, image_of(labels_of(7))),
    ]
    save_dataset_cases(cases, LABELS, "orientation", tmp_path / "odd.png")
    assert all(coloured_pixels(tmp_path / "odd.png", 3))

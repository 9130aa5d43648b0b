"""What a prediction needs, and that only what cannot fit is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from trained_model import PATCH

from missu_nnunet.errors import InputError
from missu_nnunet.machine import total_memory
from missu_nnunet.prediction.cases import Wanted
from missu_nnunet.prediction.model import load_model
from missu_nnunet.prediction.needs import Needs, check_disk, find_needs
from missu_nnunet.prediction.predictor import ObservedPredictor

SIDE = 20
HEADS = 3


@pytest.fixture(scope="module")
def predictor(model: Path) -> ObservedPredictor:
    """A model of three classes that takes images of one channel, at a spacing of 1 mm."""
    return load_model(
        *(model,),
        **{"folds": ("0",), "checkpoint": "checkpoint_final.pth", "device": "cpu", "engine": "pytorch"},
        **{"tta": False, "step": 0.5, "uncertainty": False, "on_window": lambda share: None},
    )


def write(file: Path, spacing: float, content: slice = slice(None)) -> Path:
    """A cube of noise; outside of ``content`` along each axis it is 0."""
    values = np.zeros((SIDE, SIDE, SIDE), np.float32)
    values[content, content, content] = np.random.default_rng(0).normal(5, 1, values[content, content, content].shape)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(file))
    return file


def too_coarse() -> float:
    """A spacing (mm) at which the cube has, at 1 mm, a hundred times the voxels that fit into memory."""
    memory = total_memory()
    assert memory
    return float(np.cbrt(100 * memory / (SIDE**3 * (4 + 2 * HEADS))))


def test_needs_are_those_of_the_arrays(predictor: ObservedPredictor, tmp_path: Path) -> None:
    cases = {"small": [write(tmp_path / "small.nii.gz", 1)], "large": [write(tmp_path / "large.nii.gz", 2)]}
    needs = find_needs([predictor], cases, Wanted(), tmp_path / "out")
    voxels = (2 * SIDE) ** 3
    assert needs == Needs("large", voxels * (4 + 2 * HEADS), 2 * SIDE**3)
    assert needs.text(tmp_path / "out").startswith("needs more than 1 MB of memory for large (")
    assert not needs.text(tmp_path / "out").endswith("it may not suffice")
    assert Needs("large", 2**60, 0).text(tmp_path).endswith(" are free): it may not suffice")
    more = find_needs([predictor, predictor], cases, Wanted(probabilities=True), tmp_path)
    assert more == Needs("large", 2 * voxels * (4 + 2 * HEADS) + 4 * HEADS * SIDE**3, 2 * SIDE**3 * (1 + 4 * HEADS))


def test_of_what_is_not_resampled_a_row_of_windows_suffices(predictor: ObservedPredictor, tmp_path: Path) -> None:
    cases = {"case": [write(tmp_path / "case.nii.gz", 1)]}
    needs = find_needs([predictor], cases, Wanted(), tmp_path)
    assert needs is not None
    plane = PATCH[1] * SIDE  # padded along the second axis
    assert needs.memory_bytes == plane * (4 * SIDE + 2 * HEADS * PATCH[0])
    averaged = find_needs([predictor], cases, Wanted(probabilities=True), tmp_path)
    assert averaged is not None
    assert averaged.memory_bytes == plane * SIDE * (4 + 2 * HEADS) + 4 * HEADS * SIDE**3


def test_an_image_that_cannot_fit_is_refused(predictor: ObservedPredictor, tmp_path: Path) -> None:
    file = write(tmp_path / "a.nii.gz", too_coarse())
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: 20×20×20 voxels, predicting it needs more than \S+ GB of memory"
    ):
        find_needs([predictor], {"a": [file]}, Wanted(), tmp_path)


def test_what_nnunet_crops_needs_no_memory(predictor: ObservedPredictor, tmp_path: Path) -> None:
    file = write(tmp_path / "a.nii.gz", too_coarse(), slice(7, 9))
    needs = find_needs([predictor], {"a": [file]}, Wanted(), tmp_path)
    assert needs is not None
    assert needs.memory_bytes == pytest.approx(100 * total_memory() * (2 / SIDE) ** 3, rel=0.01)


def test_what_the_disk_cannot_hold_is_refused(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_disk(Needs("a", 0, free), tmp_path)
    with pytest.raises(
        InputError, match=r"out: \S+ .B are free, the predictions need \S+ .B at least; make room there"
    ):
        check_disk(Needs("a", 0, 4000 * free), tmp_path / "out")


def test_nothing_is_said_where_nothing_is_left_or_known(predictor: ObservedPredictor, tmp_path: Path) -> None:
    assert find_needs([predictor], {}, Wanted(), tmp_path) is None
    assert find_needs([predictor], {"photo": [tmp_path / "photo.png"]}, Wanted(), tmp_path) is None

"""Overlay pictures, on files."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib import pyplot as plt

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.overlays import save_overlay

LABELS = {"core": 1, "rim": 2}
SHAPE = (12, 16, 14)


def _write(folder: Path, name: str, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 2.0)) -> Path:
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing(spacing)
    file = folder / f"{name}.nii.gz"
    sitk.WriteImage(image, file)
    return file


def _segmentation() -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3:9, 4:12, 4:11] = 2
    labels[5:7, 6:10, 6:9] = 1
    return labels


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return _write(tmp_path, "image_0000", np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return _write(tmp_path, "reference", _segmentation())


def _coloured(picture: np.ndarray) -> int:
    """The number of pixels that are not grey."""
    rgb = picture[..., :3]
    return int((rgb.max(axis=-1) - rgb.min(axis=-1) > 0.1).sum())


def test_errors_add_colour_to_the_difference_column_only(image: Path, reference: Path, tmp_path: Path) -> None:
    wrong = _segmentation()
    wrong[5:7, 6:10, 6:9] = 2  # the core is taken for the rim
    columns = []
    for name, labels in (("perfect", _segmentation()), ("wrong", wrong)):
        save_overlay(image, reference, _write(tmp_path, name, labels), LABELS, tmp_path / f"{name}.png")
        picture = plt.imread(tmp_path / f"{name}.png")
        picture = picture[: int(0.9 * len(picture))]  # without the legend
        columns.append([_coloured(column) for column in np.array_split(picture, 4, axis=1)])
    perfect, wrong_columns = columns
    assert perfect[0] == wrong_columns[0] == 0
    assert perfect[1] == wrong_columns[1] > 0
    assert perfect[3] == 0
    assert wrong_columns[3] > 500


def test_empty_segmentations_are_drawn(image: Path, tmp_path: Path) -> None:
    empty = _write(tmp_path, "empty", np.zeros(SHAPE, dtype=np.uint8))
    save_overlay(image, empty, empty, LABELS, tmp_path / "empty.png")
    assert _coloured(plt.imread(tmp_path / "empty.png")[:-150]) == 0


def test_segmentation_of_another_grid_is_refused(image: Path, reference: Path, tmp_path: Path) -> None:
    other = _write(tmp_path, "other", _segmentation()[1:])
    with pytest.raises(InputError, match=r"other\.nii\.gz.*\(11, 16, 14\).*\(12, 16, 14\)"):
        save_overlay(image, reference, other, LABELS, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_4d_image_is_refused(reference: Path, tmp_path: Path) -> None:
    volume = _write(tmp_path, "two_channels", np.zeros((2, *SHAPE), dtype=np.float32), spacing=(1, 1, 2, 1))
    with pytest.raises(InputError, match=r"two_channels\.nii\.gz: has 4 dimensions, expected 3"):
        save_overlay(volume, reference, reference, LABELS, tmp_path / "picture.png")


def test_unreadable_file_is_refused(reference: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"broken\.nii\.gz: cannot be read"):
        save_overlay(broken, reference, reference, LABELS, tmp_path / "picture.png")

"""Images that are whole, cut short, or not images at all."""

import re
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from missu_nnunet.datasets.images import FILE_ENDINGS, read_image, read_label_map
from missu_nnunet.datasets.readers import find_reader, read_labels
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import RawDataset


def write_image(file: Path) -> np.ndarray:
    voxels = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    return voxels


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_a_whole_image_is_read(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"scan{ending}"
    voxels = write_image(file)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(file)), voxels)


def test_axes_may_be_off_right_angles_as_for_nnunets_reader(tmp_path: Path) -> None:
    file = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 9, (4, 5, 6)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(voxels, [[2, 0.1, 0, 7], [0, 1, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]]), file)
    image = read_label_map(file)
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels.T)
    assert image.GetSpacing() == pytest.approx((2, 1.005, 3), rel=1e-3)
    dataset = RawDataset(tmp_path, ("T1",), {"a": (1,)}, frozenset(range(9)), None, ".nii.gz")
    assert isinstance(find_reader(dataset, file), NibabelIO)  # what SimpleITK refuses is nnU-Net's to say


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_an_image_cut_short_is_refused_with_its_name(ending: str, share: float, tmp_path: Path) -> None:
    file = tmp_path / f"scan{ending}"
    write_image(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=rf"^{re.escape(str(file))}: (damaged or cut short|not a readable image)"):
        read_image(file)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_label_map_holds_numbers(ending: str, value: float, tmp_path: Path) -> None:
    file = tmp_path / f"labels{ending}"
    voxels = np.zeros((2, 3, 4), np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    assert not sitk.GetArrayFromImage(read_label_map(file)).any()
    voxels[0, 1, 2] = value
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    for read in (read_label_map, partial(read_labels, SimpleITKIO())):
        with pytest.raises(InputError, match=r"labels.*: NaN or infinite voxels, expected a label in each"):
            read(file)


def test_a_label_map_has_no_colours(tmp_path: Path) -> None:
    file = tmp_path / "labels.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 3), np.uint8), isVector=True), str(file))
    with pytest.raises(InputError, match=r"labels\.png: 3 values per voxel, such as colours, expected a label map"):
        read_label_map(file)


def test_a_grey_bmp_as_nnunet_writes_it_has_one_value_per_pixel(tmp_path: Path) -> None:
    labels = np.arange(20, dtype=np.uint8).reshape(1, 4, 5)
    file = tmp_path / "labels.bmp"
    NaturalImage2DIO().write_seg(labels, str(file), {})
    assert np.array_equal(sitk.GetArrayFromImage(read_label_map(file)), labels[0])
    sitk.WriteImage(
        sitk.GetImageFromArray(np.stack([labels[0], labels[0] * 2, labels[0]], -1), isVector=True), str(file)
    )
    with pytest.raises(InputError, match=r"labels\.bmp: 3 values per voxel"):
        read_label_map(file)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.nii\.gz: no such file"):
        read_image(tmp_path / "scan.nii.gz")

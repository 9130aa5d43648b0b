"""Every file is turned alike, whatever the order of its voxels; marks and slice numbers are those of its header."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.pictures.orientation import Marks, orientation_code, oriented, oriented_labels

CODES = ["".join(code) for axes in permutations(("LR", "PA", "SI")) for code in product(*axes)]
AXIAL = Marks(left="R", right="L", top="A", bottom="P")
CORONAL = Marks(left="R", right="L", top="S", bottom="I")
SAGITTAL = Marks(left="A", right="P", top="S", bottom="I")


def stored_as(code: str) -> tuple[np.ndarray, sitk.Image]:
    """A volume (z, y, x) in LPS, and the same as a file whose axes point to ``code``."""
    volume = np.random.default_rng(0).integers(0, 200, (3, 4, 5), np.uint8)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((1.0, 2.0, 3.0))
    return volume, sitk.DICOMOrient(image, code)


@pytest.mark.parametrize("code", CODES)
def test_every_orientation_is_turned_marked_and_counted(code: str) -> None:
    volume, image = stored_as(code)
    assert orientation_code(image) == code
    turned, geometry = oriented(image)
    assert np.array_equal(turned, volume)
    assert geometry.spacing == (3.0, 2.0, 1.0)
    assert [geometry.marks(axis) for axis in range(3)] == [AXIAL, CORONAL, SAGITTAL]
    # The slice of that number in the file is the slice that is shown.
    stored = sitk.GetArrayFromImage(image)
    for axis, letters in enumerate(("SI", "PA", "LR")):
        stored_axis = 2 - next(index for index, letter in enumerate(code) if letter in letters)
        for index in range(volume.shape[axis]):
            in_file = np.take(stored, geometry.slice_number(axis, index) - 1, stored_axis)
            assert np.array_equal(np.sort(in_file, axis=None), np.sort(np.take(volume, index, axis), axis=None))


def test_a_cropped_volume_keeps_the_images_numbers() -> None:
    for code, first in (("LPS", 3), ("RAS", 3), ("RAI", 1)):
        _, geometry = oriented(stored_as(code)[1])
        assert geometry.cropped((slice(2, 3), slice(0, 4), slice(1, 4))).slice_number(0, 0) == first


def test_voxels_taken_as_another_orientation_keep_the_marks_of_their_header() -> None:
    _, image = stored_as("RAS")
    as_stored, geometry = oriented(image, taken_as="LPS")
    assert np.array_equal(as_stored, sitk.GetArrayFromImage(image))
    assert geometry.marks(0) == Marks(left="L", right="R", top="P", bottom="A")
    assert oriented(stored_as("PIR")[1], taken_as="RAS")[1].planes == ("sagittal", "axial", "coronal")
    assert [geometry.slice_number(axis, 0) for axis in range(3)] == [1, 1, 1]


def test_2d_images_and_colours() -> None:
    colours = np.random.default_rng(0).integers(0, 200, (4, 5, 3), np.uint8)
    values, geometry = oriented(sitk.GetImageFromArray(colours, isVector=True))
    assert np.allclose(values[0], colours.mean(axis=-1))
    assert geometry.planes == ("image",)
    assert geometry.marks(0) is None


def test_labels_are_whole_numbers() -> None:
    image = sitk.GetImageFromArray(np.array([[[0.0, 1.0], [np.nan, 32767.0]]]))
    assert oriented_labels(image)[0].tolist() == [[[0, 1], [0, 32767]]]

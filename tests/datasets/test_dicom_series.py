"""A folder of slices as one volume, at the place that its headers give."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from chaos_tree import make_truth, write_slice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from missu_nnunet.datasets.dicom_series import file_order, read_series, read_volume
from missu_nnunet.errors import InputError


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    upwards=st.booleans(),
    step=st.floats(0.5, 9),
    spacing=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    shape=st.tuples(st.integers(2, 5), st.integers(1, 5), st.integers(1, 5)),
)
def test_any_orientation_and_any_order_of_files(tmp_path, seed, upwards, step, spacing, shape):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng, shape, step)
    turn = Rotation.random(random_state=seed).as_matrix()
    truth.axis_x, truth.axis_y, truth.spacing = turn[:, 0], turn[:, 1], spacing
    truth.origins = rng.normal(0, 100, 3) + step * np.arange(shape[0])[:, None] * turn[:, 2]
    folder = tmp_path / f"{seed}{upwards}{step}{spacing}{shape}"
    uid = generate_uid()
    for place in range(shape[0]):
        number = place if upwards else shape[0] - place
        write_slice(folder / f"{number}.dcm", truth, truth.volume[place], place, "MR", uid)
    series = read_series(list(folder.iterdir()))
    volume = read_volume(series)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), truth.volume)
    positions = truth.positions()
    for index in np.ndindex(shape):
        place = volume.TransformIndexToPhysicalPoint([int(at) for at in index[::-1]])
        np.testing.assert_allclose(place, positions[index], atol=0.002)
    shutil.rmtree(folder)


def test_files_in_the_order_of_their_numbers(tmp_path):
    """A "²" is a digit, and no number to Python."""
    names = ["2.dcm", "²", "10.dcm", "10².dcm"]
    assert sorted(names, key=lambda name: file_order(tmp_path / name)) == ["2.dcm", "10.dcm", "10².dcm", "²"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("ImageOrientationPatient", "0\\0\\0\\0\\0\\0"),
        ("ImageOrientationPatient", "1\\0\\0\\1\\0\\0"),
        ("ImageOrientationPatient", "1\\0\\0"),
        ("ImagePositionPatient", "nan\\0\\0"),
        ("ImagePositionPatient", "1e400\\0\\0"),
        ("ImagePositionPatient", "0\\0"),
        ("ImagePositionPatient", "a\\b\\c"),
        ("PixelSpacing", "inf\\1"),
        ("PixelSpacing", "0\\1"),
        ("PixelSpacing", "1"),
        ("PixelSpacing", "1\\1\\1"),
        ("RescaleSlope", "nan"),
        ("RescaleIntercept", "1\\2"),
        ("Rows", b"\x04\x00\x04\x00"),
        ("Rows", b"\x04"),
        ("NumberOfFrames", "5"),
        ("SamplesPerPixel", b"\x03\x00"),
    ],
)
def test_headers_that_place_no_slice(tmp_path, tag, value):
    truth = make_truth(np.random.default_rng(0), (2, 4, 5))
    for place in range(2):
        file = tmp_path / f"{place}.dcm"
        write_slice(file, truth, truth.volume[place], place, "MR", "1.2.3")
        header = pydicom.dcmread(file)
        if tag == "NumberOfFrames":
            header.PixelData *= 5
        elif tag == "SamplesPerPixel":
            header.PhotometricInterpretation, header.PlanarConfiguration = "RGB", 0
            header.PixelData *= 3
        number = pydicom.datadict.tag_for_keyword(tag)
        raw = value if isinstance(value, bytes) else value.encode()
        raw += b" " * (len(raw) % 2 and tag != "Rows")
        header[number] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(number), pydicom.datadict.dictionary_VR(number), len(raw), raw, 0, False, True
        )
        header.save_as(file)
    with pytest.raises(InputError, match=rf"^{tmp_path}/[01].dcm: ") as error:
        read_volume(read_series(list(tmp_path.iterdir())))
    assert "\n" not in str(error.value)

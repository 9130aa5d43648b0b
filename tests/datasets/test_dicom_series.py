"""A folder of slices as one volume, at the place that its headers give."""

import shutil

import numpy as np
import SimpleITK as sitk
from chaos_tree import make_truth, write_slice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from missu_nnunet.datasets.dicom_series import read_series, read_volume


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

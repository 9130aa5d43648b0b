"""Rows of nnU-Net's own windows: in order, all there, and nothing reaches back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from missu_nnunet.prediction.windows import SLICES, rows_of


class Plan:
    """What nnU-Net's predictor asks of a configuration to place its windows."""

    def __init__(self, patch_size: tuple[int, ...]) -> None:
        self.patch_size = patch_size


@pytest.mark.parametrize("dimensions", [2, 3])
@given(data=st.data())
def test_rows_fill_the_image_in_order(dimensions: int, data: st.DataObject) -> None:
    patch = data.draw(st.tuples(*[st.integers(1, 6)] * dimensions), "patch")
    more = data.draw(st.tuples(*[st.integers(0, 15)] * dimensions), "voxels beyond the patch")
    shape = tuple(size + beyond for size, beyond in zip(patch, more, strict=True))
    if dimensions == 2:
        shape = (data.draw(st.integers(1, 40), "slices"), *shape)
    predictor = nnUNetPredictor(tile_step_size=data.draw(st.floats(0.2, 1)), device=torch.device("cpu"))
    predictor.configuration_manager = Plan(patch)
    windows = predictor._internal_get_sliding_window_slicers(shape)
    rows = rows_of(windows, shape[0])
    assert [window for row in rows for window in row.windows] == windows
    assert [0, *(row.stop for row in rows)] == [*(row.start for row in rows), shape[0]]
    finished = 0
    for row in rows:
        covered = np.zeros((1, row.depth, *shape[1:]), int)
        of_image = np.zeros((1, *shape), int)
        for window in row.windows:
            covered[row.place(window)] += 1
            of_image[window] += 1
        assert not of_image[:, :finished].any()
        assert np.array_equal(of_image[:, row.start : row.start + row.depth], covered)
        assert covered.sum() == of_image.sum()
        finished = row.stop
    if dimensions == 2:
        assert max(row.depth for row in rows) == min(SLICES, shape[0])

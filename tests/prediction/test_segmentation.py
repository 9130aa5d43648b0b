"""Class by class as nnU-Net with all classes at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.prediction.segmentation import segment

PAPER_PLANS = Path(__file__).parents[2] / "plans" / "nnUNetMISSUPlansPaper.json"
LABELS = {"background": 0, "a": 1, "b": 2}
REGIONS = {"background": 0, "whole": [1, 2], "part": 2}
TORCH_RESAMPLING: dict[str, Any] = {
    "resampling_fn_probabilities": "resample_torch_fornnunet",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "force_separate_z": None},
}


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
@pytest.mark.parametrize("resampling", [{}, TORCH_RESAMPLING])
@given(data=st.data())
def test_is_nnunets_voxel_for_voxel(labels: dict, resampling: dict, data: st.DataObject) -> None:
    content = {"labels": labels, "regions_class_order": [1, 2], "channel_names": {"0": "CT"}}
    plans = json.loads(PAPER_PLANS.read_text())
    spacing = data.draw(st.sampled_from([[1.0, 1.0, 1.0], [1.5, 1.0, 0.7], [5.0, 1.0, 1.0]]), "of the plan")
    plans["configurations"]["3d_fullres"] |= resampling | {"spacing": spacing}
    order = data.draw(st.permutations(range(3)), "transposed axes")
    plans |= {"transpose_forward": order, "transpose_backward": list(np.argsort(order))}
    manager = PlansManager(plans)
    arguments = manager, manager.get_configuration("3d_fullres"), manager.get_label_manager(content)

    shape = data.draw(st.tuples(*[st.integers(3, 6)] * 3), "at the plan's spacing")
    cropped = data.draw(st.one_of(st.just(shape), st.tuples(*[st.integers(3, 9)] * 3)), "on the image's grid")
    properties = {
        "spacing": data.draw(st.sampled_from([[1.0, 1.0, 1.0], [4.0, 1.0, 1.0]]), "of the image"),
        "shape_after_cropping_and_before_resampling": cropped,
        "shape_before_cropping": tuple(size + 2 for size in cropped),
        "bbox_used_for_cropping": [[1, size + 1] for size in cropped],
    }
    # Few values, so that classes are often equally likely.
    values = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0])
    logits = data.draw(arrays(np.float16, (arguments[2].num_segmentation_heads, *shape), elements=values), "logits")
    cuts = [] if cropped != shape else data.draw(st.lists(st.integers(0, shape[0]), max_size=3), "cuts between slabs")
    expected = convert_predicted_logits_to_segmentation_with_correct_shape(logits.copy(), *arguments, properties)
    found = segment(np.split(logits, sorted(cuts), axis=1), shape, properties, *arguments)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)

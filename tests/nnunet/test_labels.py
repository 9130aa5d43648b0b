"""The names of a network's outputs."""

from typing import Any

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from missu_nnunet.nnunet.labels import output_names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "core": [2], "shell": 1, "ignore": 3}, ["background", "shell", "core"]),
        ({"background": 0, "core": 2, "shell": 1, "ignore": None}, ["background", "shell", "core"]),
        ({"background": 0, "all": [0, 1], "core": 1}, ["all", "core"]),  # a region may hold the background
        ({"background": 0, "outside": [0], "whole": [0, 1, 2], "core": 2, "ignore": 3}, ["whole", "core"]),
    ],
)
def test_outputs_are_named_in_their_order(labels: dict[str, Any], names: list[str]) -> None:
    assert output_names(LabelManager(labels, [1, 2])) == names

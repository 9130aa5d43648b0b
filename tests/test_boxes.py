"""Boxes around masks, up to the array's borders."""

import numpy as np

from missu_nnunet.boxes import bounding_box


def test_a_box_holds_every_part_of_a_mask_and_the_margin() -> None:
    mask = np.zeros((9, 8), bool)
    mask[2, 5] = mask[4, 3] = True
    assert bounding_box(mask, 0) == (slice(2, 5), slice(3, 6))
    box = bounding_box(mask, 4)
    assert box is not None
    assert mask[box].shape == (9, 8)
    assert bounding_box(np.zeros((9, 8, 7), bool), 1) is None

"""The box around what a mask marks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects


def bounding_box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...] | None:
    """Find the smallest box that holds a mask and a margin around it; None where the mask is empty.

    Args:
        mask: the mask, of any number of axes.
        margin: voxels around the mask; the box may reach beyond the array's end, where nothing is.
    """
    boxes = find_objects(mask.astype(np.uint8))
    if not boxes:
        return None
    return tuple(slice(max(part.start - margin, 0), part.stop + margin) for part in boxes[0])

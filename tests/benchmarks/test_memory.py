import sys
from typing import Any

import numpy as np
import pytest
import torch
from memory import PATCH, as_missu, as_nnunet, peak_bytes


def holding(image: torch.Tensor, properties: dict[str, Any]) -> np.ndarray:
    """Allocate as many MiB as the volume has patches."""
    return np.ones(int(image.numel() / np.prod(PATCH)) << 20, np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted in other units elsewhere")
def test_peak_is_what_a_volume_adds() -> None:
    peak, digest = peak_bytes(holding, (PATCH[0] * 200, *PATCH[1:]), 1.0)
    assert 190 << 20 < peak < 400 << 20
    assert digest == peak_bytes(holding, (PATCH[0] * 200, *PATCH[1:]), 1.0)[1]


def test_both_find_the_same_segmentation() -> None:
    digests = {peak_bytes(work, (40, 64, 70), scale=1.5)[1] for work in (as_nnunet, as_missu)}
    assert len(digests) == 1

"""What needs no clock: the sizes of the networks that the speed benchmark compares."""

import pytest
from speed import CHANNELS, PATCHES, REFERENCE, unets

from missu_nnunet.benchmark import inference_size


@pytest.mark.parametrize(("patch", "features"), PATCHES)
def test_missu_has_fewer_parameters_and_operations_than_the_unet(patch: tuple[int, ...], features: int) -> None:
    sizes = {name: inference_size(build, CHANNELS, patch) for name, build in unets(patch, features).items()}
    unet = sizes.pop(REFERENCE)
    assert len(sizes) == 2
    assert len(set(sizes.values())) == 1
    for missu in sizes.values():
        assert missu[0] < unet[0]
        assert missu[1] < unet[1]

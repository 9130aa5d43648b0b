"""The parts of the speed benchmark that need no clock: the sizes of the networks."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from speed import (
    CHANNELS,
    FEATURES,
    PATCHES,
    REFERENCE,
    agreement,
    macs_of_parts,
    seconds_now,
    time_parts,
    unets,
)

from missu_nnunet.network_costs import inference_size


@pytest.mark.parametrize(("patch", "features"), PATCHES)
def test_about_as_many_operations_and_at_least_half_the_parameters(patch: tuple[int, ...], features: int) -> None:
    sizes = {name: inference_size(build, CHANNELS, patch) for name, build in unets(patch, features).items()}
    unet = sizes.pop(REFERENCE)
    assert len(sizes) == 2
    assert len(set(sizes.values())) == 1
    for missu in sizes.values():
        assert missu[0] >= unet[0] / 2
        assert missu[1] < 1.22 * unet[1]  # in the smallest patch there are no deeper stages to replace


def test_agreement_of_two_folders(tmp_path: Path) -> None:
    for name, changed in (("ours", 0), ("stock", 1)):
        (tmp_path / name).mkdir()
        labels = np.zeros((2, 4, 4), np.uint8)
        labels[0, 0, :4] = 1
        labels[1] = 2
        labels[0, 0, 0] = changed
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / name / "case.nii.gz"))
    different, dice = agreement(tmp_path / "ours", tmp_path / "stock")
    assert different == 1 / 32
    assert dice == pytest.approx((2 * 3 / 7 + 1) / 2)


def test_parts_take_all_operations_and_most_of_the_time() -> None:
    network = unets((32, 32, 32), FEATURES // 2)["MISSU"]().eval()
    network.decoder.deep_supervision = False
    x = torch.randn(1, CHANNELS, 32, 32, 32)
    begin = seconds_now(x.device)
    seconds = time_parts(network, x)
    total = seconds_now(x.device) - begin
    macs = macs_of_parts(network, x)
    assert seconds.keys() == macs.keys()
    assert 0.5 * total < sum(seconds.values()) < total
    assert sum(macs.values()) == inference_size(lambda: network, CHANNELS, (32, 32, 32))[1]

"""What needs no clock: the sizes of the networks that the speed benchmark compares."""

import pytest
import torch
from speed import CHANNELS, PATCHES, REFERENCE, unets

from missu_nnunet.distillation.self_distillation import SelfDistillation
from missu_nnunet.planning.summary import count_macs


@pytest.mark.parametrize(("edge", "features"), PATCHES)
def test_missu_has_fewer_parameters_and_operations_than_the_unet(edge: int, features: int) -> None:
    patch = (edge, edge, edge)
    sizes = {}
    for name, build in unets(patch, features).items():
        with torch.device("meta"):
            network = build().eval()
        network.decoder.deep_supervision = False
        network = network.network if isinstance(network, SelfDistillation) else network
        parameters = sum(parameter.numel() for parameter in network.parameters())
        sizes[name] = parameters, count_macs(network, CHANNELS, list(patch))
    unet = sizes.pop(REFERENCE)
    assert len(sizes) == 2
    assert len(set(sizes.values())) == 1
    for missu in sizes.values():
        assert missu[0] < unet[0]
        assert missu[1] < unet[1]

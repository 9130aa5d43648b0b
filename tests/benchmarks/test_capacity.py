"""The networks of the study on width and depth."""

import pytest
import torch
from capacity import ARMS, UNET, plans_of
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import MISSU_CLASS, planned_arch_kwargs
from missu_nnunet.architecture.missu import MISSU


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != UNET])
def test_every_arm_is_a_network_of_the_channels_asked_for(arm: str) -> None:
    unet, patch_size = unet_plan((1, 1), (160, 128), 16)
    arch_kwargs = planned_arch_kwargs(unet, patch_size)
    architecture = {"network_class_name": MISSU_CLASS, "arch_kwargs": arch_kwargs}
    plan = {"spacing": [1, 1], "patch_size": patch_size, "architecture": architecture}
    changed = plans_of(arm, {"configurations": {"2d": plan}}, "2d", channels=32)
    kwargs = changed["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"][0] == 32
    width = {"eighth-narrow": 192, "no-transformer": None}.get(arm, 512)
    assert (kwargs["transformer"] or {}).get("embedding_dim") == width
    with torch.device("meta"):
        network = MISSU(1, num_classes=2, **kwargs)
        assert network(torch.empty(1, 1, *patch_size)).shape == (1, 2, *patch_size)
    assert arch_kwargs["features_per_stage"][0] == 16, "the plans that came in are changed"

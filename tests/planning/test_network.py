import copy

import pytest
from checkpoints import tiny_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.architecture.configuration import MISSU_CLASS, missu_arch_kwargs
from missu_nnunet.errors import InputError
from missu_nnunet.planning.network import with_missu_network


def test_the_configuration_names_missu_and_the_rest_stays() -> None:
    plans = tiny_plans()
    plans["configurations"]["3d_lowres"] = {"inherits_from": "3d_fullres", "batch_size": 3}
    before = copy.deepcopy(plans)
    changed = with_missu_network(plans, "3d_lowres")
    assert plans == before
    architecture = changed["configurations"]["3d_lowres"].pop("architecture")
    stock = before["configurations"]["3d_fullres"]["architecture"]
    assert architecture == {
        "network_class_name": MISSU_CLASS,
        "arch_kwargs": missu_arch_kwargs(stock["arch_kwargs"], [16, 16, 16]),
        "_kw_requires_import": stock["_kw_requires_import"],
    }
    assert changed == before


def test_plans_of_missu_stay_as_they_are() -> None:
    plans = with_missu_network(tiny_plans(), "3d_fullres")
    assert with_missu_network(plans, "3d_fullres") == plans


def test_plans_of_old_versions_of_nnunet_are_understood() -> None:
    plans = tiny_plans()
    plan = plans["configurations"]["3d_fullres"]
    del plan["architecture"]
    plan |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 32,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3]] * 3,
    }
    changed = with_missu_network(plans, "3d_fullres")
    kwargs = PlansManager(changed).get_configuration("3d_fullres").network_arch_init_kwargs
    assert kwargs["features_per_stage"] == [4, 8, 16]
    assert kwargs["stages_below_transformer"] == 0


def test_another_kind_of_network_is_refused() -> None:
    plans = tiny_plans()
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] = {"patch_embed_size": [8, 8, 8]}
    with pytest.raises(InputError, match="PlainConvUNet, ResidualEncoderUNet or MISSU"):
        with_missu_network(plans, "3d_fullres")

"""Writes MISSU's network into plans of nnU-Net's planners."""

from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.architecture.configuration import MISSU_CLASS, missu_arch_kwargs


def with_missu_network(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """Return the plans with MISSU and all of its arguments as the network of a configuration, where another stood.

    Args:
        plans: the content of a plans file.
        configuration: such as ``3d_fullres``.

    Raises:
        InputError: if ``missu_arch_kwargs`` raises it.
    """
    manager = PlansManager(plans).get_configuration(configuration)
    architecture = {
        "network_class_name": MISSU_CLASS,
        "arch_kwargs": missu_arch_kwargs(manager.network_arch_init_kwargs, manager.patch_size),
        "_kw_requires_import": manager.network_arch_init_kwargs_req_import,
    }
    configurations = plans["configurations"]
    changed = configurations[configuration] | {"architecture": architecture}
    return plans | {"configurations": configurations | {configuration: changed}}

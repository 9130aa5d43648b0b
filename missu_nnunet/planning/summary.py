"""Describes the network that a plan gives: its stages, its Transformer, and what it costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from missu_nnunet.architecture.configuration import MISSU_CLASS, missu_arch_kwargs
from missu_nnunet.nnunet.plans import malformed_plan_named, read_plan
from missu_nnunet.planning.memory import estimate_training_bytes


@dataclass(frozen=True)
class Summary:
    """MISSU as ``MISSUTrainer`` builds it from one configuration of a plan.

    Attributes:
        plans_name: name of the plans.
        configuration: name of the configuration.
        patch_size: patch size in voxels.
        batch_size: patches per training step.
        stages: one dictionary per encoder stage: ``channels``, ``kernel_size``, ``stride`` and ``size`` (voxels).
        transformer: keyword arguments of the Transformer; None where the plan has none.
        transformer_stage: index of the stage behind which it stands.
        tokens: number of tokens that attention runs over.
        parameters: number of parameters of the inference network.
        macs: multiply-accumulate operations of one forward pass of one patch, at inference.
        training_bytes: estimated memory of a training step under AMP in bytes, see ``missu_nnunet.planning.memory``.
    """

    plans_name: str
    configuration: str
    patch_size: list[int]
    batch_size: int
    stages: list[dict[str, Any]]
    transformer: dict[str, Any] | None
    transformer_stage: int
    tokens: int
    parameters: int
    macs: int
    training_bytes: int


def count_macs(network: nn.Module, input_channels: int, patch_size: list[int]) -> int:
    """Count the multiply-accumulate operations of one forward pass of one patch.

    Args:
        network: the network, on the meta device.
        input_channels: image channels.
        patch_size: patch size in voxels.
    """
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        network(torch.empty(1, input_channels, *patch_size))
    return counter.get_total_flops() // 2


def summarise(plans_file: Path, configuration: str) -> Summary:
    """Describe the network of a plan without allocating memory for it.

    Args:
        plans_file: a plans file of nnU-Net; the dataset's ``dataset.json`` lies beside it, as nnU-Net puts it.
        configuration: e.g. ``3d_fullres``.

    Raises:
        InputError: if a file is missing or unreadable, or the plan has no such configuration or is not for a U-Net.
    """
    plans_manager, manager, dataset_json = read_plan(plans_file, configuration)
    with malformed_plan_named(plans_file):
        patch_size = [int(size) for size in manager.patch_size]
        kwargs = missu_arch_kwargs(manager.network_arch_init_kwargs, patch_size)
        input_channels = determine_num_input_channels(plans_manager, manager, dataset_json)
        num_classes = plans_manager.get_label_manager(dataset_json).num_segmentation_heads
        with torch.device("meta"):
            network = get_network_from_plans(
                MISSU_CLASS, kwargs, manager.network_arch_init_kwargs_req_import, input_channels, num_classes, False
            )
        sizes = -(-np.array(patch_size) // np.cumprod(kwargs["strides"], axis=0))
        return Summary(
            plans_name=plans_manager.plans_name,
            configuration=configuration,
            patch_size=patch_size,
            batch_size=manager.batch_size,
            stages=[
                {"channels": channels, "kernel_size": list(kernel), "stride": list(stride), "size": size.tolist()}
                for channels, kernel, stride, size in zip(
                    kwargs["features_per_stage"], kwargs["kernel_sizes"], kwargs["strides"], sizes, strict=True
                )
            ],
            transformer=kwargs["transformer"],
            transformer_stage=network.transformer_stage,
            tokens=int(np.prod(sizes[network.transformer_stage])),
            parameters=sum(p.numel() for p in network.parameters()),
            macs=count_macs(network, input_channels, patch_size),
            training_bytes=estimate_training_bytes(network, patch_size, manager.batch_size, bytes_per_element=2),
        )

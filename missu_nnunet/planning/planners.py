"""Planners that write plans for MISSU.

nnU-Net's own planners decide patch, batch and topology. These name MISSU as the network, write down its Transformer,
and budget its memory in training without a teacher.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from missu_nnunet.architecture.configuration import planned_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError, PlanError


class _PlansMISSU:
    """The changes of all MISSU planners to an ``ExperimentPlanner``; ``PLANS`` is the name of their plans."""

    PLANS: str
    overwrite_target_spacing: Sequence[float] | None
    preprocessor_name: str
    plans_identifier: str
    dataset_name: str
    dataset_json: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"plans_name": self.PLANS} | kwargs)
        self.UNet_class = MISSU

    @staticmethod
    def static_estimate_VRAM_usage(  # noqa: N802, nnU-Net's name
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> np.int64:
        """Estimate the feature-map elements that a training of MISSU keeps; the moving average keeps none."""
        kwargs = planned_arch_kwargs(arch_kwargs, patch_size)
        with torch.device("meta"):  # sizes are all that is asked for
            network = get_network_from_plans(
                arch_class_name, kwargs, arch_kwargs_req_import, input_channels, output_channels, allow_init=False
            )
        return network.compute_conv_feature_map_size(patch_size)

    def get_plans_for_configuration(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return nnU-Net's plan of one configuration with the stages, blocks and Transformer of MISSU."""
        try:
            plan = super().get_plans_for_configuration(*args, **kwargs)  # type: ignore[misc]
        except PlanError as error:
            raise InputError(f"{self.dataset_name}: {error}") from None
        architecture = plan["architecture"]
        architecture["arch_kwargs"] = planned_arch_kwargs(architecture["arch_kwargs"], plan["patch_size"])
        return plan

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """Return nnU-Net's schemes, of whole images where voxels may have the ignore label.

        Of images with much empty space nnU-Net normalises the rest by itself, and takes an ignored voxel for a part of
        that: training images would be normalised otherwise than those to predict, which have no label map.
        """
        schemes, masked = super().determine_normalization_scheme_and_whether_mask_is_used_for_norm()  # type: ignore[misc]
        can_be_missing = self.dataset_json["labels"].get("ignore") is not None
        return schemes, [use and not can_be_missing for use in masked]

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Return the name of the preprocessed data, which are shared with nnU-Net's plans where they are the same."""
        nnunet_normalises = super().determine_normalization_scheme_and_whether_mask_is_used_for_norm()  # type: ignore[misc]
        same_data = (
            configuration_name in ("2d", "3d_fullres")
            and self.overwrite_target_spacing is None
            and self.preprocessor_name == DefaultPreprocessor.__name__
            and self.determine_normalization_scheme_and_whether_mask_is_used_for_norm() == nnunet_normalises
        )
        return f"{'nnUNetPlans' if same_data else self.plans_identifier}_{configuration_name}"


class MISSUPlanner(_PlansMISSU, ExperimentPlanner):
    """Writes plans with one residual block per stage and the memory target of nnU-Net's default planner (8 GB)."""

    PLANS = "nnUNetMISSUPlans"


class MISSUPlannerM(_PlansMISSU, nnUNetPlannerResEncM):
    """Writes plans with the residual encoder and the memory target of nnU-Net's ResEnc M (9 to 11 GB)."""

    PLANS = "nnUNetMISSUPlansM"


class MISSUPlannerL(_PlansMISSU, nnUNetPlannerResEncL):
    """Writes plans with the residual encoder and the memory target of nnU-Net's ResEnc L (24 GB)."""

    PLANS = "nnUNetMISSUPlansL"


class MISSUPlannerCPU(MISSUPlanner):
    """Writes plans that a CPU can train in minutes, with half the channels and a small patch, for demos and tests."""

    PLANS = "nnUNetMISSUPlansCPU"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"gpu_memory_target_in_gb": 0.1} | kwargs)
        self.UNet_base_num_features = 16

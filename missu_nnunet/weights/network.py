"""Builds the network to which the weights of a checkpoint belong."""

from collections.abc import Iterable

from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.training import variants
from missu_nnunet.training.trainer import MISSUTrainer


def trainer_for(keys: Iterable[str]) -> type[MISSUTrainer]:
    """Return the trainer whose network has weights of these names; networks differ by the Transformer only."""
    has_transformer = any(key.startswith("bottleneck.") for key in keys)
    return MISSUTrainer if has_transformer else variants.MISSUTrainerNoTransformer  # type: ignore[attr-defined]  # made on demand


def build_network(
    trainer: type[MISSUTrainer], plans_manager: PlansManager, configuration: str, dataset_json: dict
) -> MISSU:
    """Build the inference network as nnU-Net's predictor would, newly initialised and without deep supervision.

    Raises:
        InputError: if the plan is not one for a U-Net, or has a single stage.
    """
    manager = plans_manager.get_configuration(configuration)
    return trainer.build_network_architecture(
        plans_manager,
        manager,
        determine_num_input_channels(plans_manager, manager, dataset_json),
        plans_manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )

"""The arms of the accuracy study, found by nnU-Net with ``nnUNet_extTrainer=benchmarks/trainers``.

``<Arm>_<N>epochs_<K>iters_noTTA`` trains N epochs of K iterations, on the same batches in every arm of one
``MISSU_SEED``, and does not mirror at test time, which would take eight times as long and serves all arms alike. The
arms are

- every MISSU trainer;
- ``nnUNetTrainer``, and ``nnUNetTrainerAdamW`` with MISSU's optimiser and learning-rate schedule, so that the
  optimiser's gain is not taken for the network's;
- ``nnUNet_PrimusV3S_Trainer``, its warm-up shortened in proportion.
"""

import os
import re
from typing import Any

import torch

from missu_nnunet.training.random_state import seed_from_environment

_NAME = re.compile(
    r"(?P<arm>nnUNetTrainer(AdamW)?|nnUNet_PrimusV3S_Trainer|MISSUTrainer[A-Za-z]*)"
    r"_(?P<epochs>[1-9]\d*)epochs_(?P<iterations>[1-9]\d*)iters_noTTA"
)


def __getattr__(name: str) -> type:
    match = _NAME.fullmatch(name)
    if match is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if match["arm"].startswith("MISSU"):
        from missu_nnunet.training import variants

        base = getattr(variants, name.removesuffix("_noTTA"))
    else:
        base = _short(match["arm"], int(match["epochs"]), int(match["iterations"]))
    return type(name, (_comparable(base),), {"__module__": __name__})


def _comparable(base: Any) -> Any:
    """``base`` with the batches of every other arm, and without mirroring at test time."""

    class Arm(base):
        def initialize(self) -> None:
            super().initialize()
            if "OMP_NUM_THREADS" in os.environ:  # of which nnU-Net takes no notice on a CPU
                torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
            # How many random numbers went into the first weights differs from network to network.
            seed_from_environment(self.local_rank)

        def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802, nnU-Net's name
            settings = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            self.inference_allowed_mirroring_axes = None
            return settings

    return Arm


def _short(arm: str, epochs: int, iterations: int) -> Any:
    """A trainer of nnU-Net's, of a given length."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_PrimusV3S_Trainer

    from missu_nnunet.training.trainer import MISSUTrainer

    base = nnUNet_PrimusV3S_Trainer if arm == "nnUNet_PrimusV3S_Trainer" else nnUNetTrainer

    class Short(base):  # type: ignore[misc, valid-type]
        hyperparameters = MISSUTrainer.hyperparameters

        def __init__(
            self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict, device: torch.device
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            seed_from_environment(self.local_rank)
            self.num_epochs = epochs
            self.num_iterations_per_epoch = iterations
            self.num_val_iterations_per_epoch = max(1, iterations // 5)
            self.warmup_duration_whole_net = max(1, int(self.hyperparameters.warmup * epochs))  # Primus's
            if arm == "nnUNetTrainerAdamW":
                self.initial_lr = self.hyperparameters.initial_lr
                self.weight_decay = self.hyperparameters.weight_decay

        if arm == "nnUNetTrainerAdamW":
            configure_optimizers = MISSUTrainer.configure_optimizers

    return Short

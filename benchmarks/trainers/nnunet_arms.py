"""nnU-Net's own network under MISSU's budgets, found with ``nnUNet_extTrainer=benchmarks/trainers``.

``nnUNetTrainer_<N>epochs_<K>iters`` is nnU-Net's trainer, shortened. ``nnUNetTrainerAdamW_<N>epochs_<K>iters`` has
MISSU's optimiser and learning-rate schedule besides, so that the optimiser's gain is not taken for the network's.
"""

import re
from typing import Any

import torch

_NAME = re.compile(r"nnUNetTrainer(?P<adamw>AdamW)?_(?P<epochs>[1-9]\d*)epochs_(?P<iterations>[1-9]\d*)iters")


def __getattr__(name: str) -> type:
    match = _NAME.fullmatch(name)
    if match is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from missu_nnunet.training.trainer import MISSUTrainer

    class Arm(nnUNetTrainer):
        hyperparameters = MISSUTrainer.hyperparameters

        def __init__(
            self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict, device: torch.device
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = int(match["epochs"])
            self.num_iterations_per_epoch = int(match["iterations"])
            self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)
            if match["adamw"]:
                self.initial_lr = self.hyperparameters.initial_lr
                self.weight_decay = self.hyperparameters.weight_decay

        if match["adamw"]:
            configure_optimizers = MISSUTrainer.configure_optimizers

    Arm.__name__ = name
    return Arm

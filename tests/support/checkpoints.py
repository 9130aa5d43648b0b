"""Real checkpoints of tiny networks, written by nnU-Net's and MISSU's own trainers."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from random_plans import plain_arch_kwargs

DATASET = "Dataset904_Checkpoints"
LABELS = {"background": 0, "shell": 1, "core": 2}


def tiny_plans(
    n_stages: int = 3, patch_size: int = 16, dim: int = 3, residual: bool = False, base_features: int = 4
) -> dict[str, Any]:
    """Plans of one configuration, ``3d_fullres`` or ``2d``."""
    names = {
        "conv_op": f"torch.nn.Conv{dim}d",
        "norm_op": f"torch.nn.InstanceNorm{dim}d",
        "nonlin": "torch.nn.LeakyReLU",
    }
    strides = [[1] * dim] + [[2] * dim] * (n_stages - 1)
    unet = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [patch_size] * dim,
        "spacing": [1.0] * dim,
        "batch_dice": False,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{unet}",
            "arch_kwargs": plain_arch_kwargs(strides, base_features=base_features, residual=residual) | names,
            "_kw_requires_import": list(names),
        },
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {"2d" if dim == 2 else "3d_fullres": configuration},
    }


def dataset_json(channels: int = 1, labels: dict[str, Any] = LABELS) -> dict[str, Any]:
    """A ``dataset.json`` of MRI channels."""
    names = {str(channel): "MRI" for channel in range(channels)}
    return {"channel_names": names, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}


def write_plans(folder: Path, plans: dict[str, Any], dataset: dict[str, Any]) -> Path:
    """Write both files as nnU-Net places them, and return that of the plans."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    file = folder / "plans.json"
    file.write_text(json.dumps(plans))
    return file


def initialized(trainer_class: type[nnUNetTrainer], plans: dict[str, Any], dataset: dict[str, Any]) -> nnUNetTrainer:
    """A trainer with network, optimiser and loss, and no data behind it; no weight is at a special value."""
    torch.manual_seed(0)
    (configuration,) = plans["configurations"]
    plans = plans | {"continue_training": False}
    trainer = trainer_class(plans, configuration, 0, dataset, torch.device("cpu"))
    data = Path(os.environ["nnUNet_preprocessed"]) / DATASET / "nnUNetPlans_3d_fullres"
    data.mkdir(parents=True, exist_ok=True)
    (data / "case.b2nd").touch()  # by which nnU-Net tells the storage format
    trainer.initialize()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return trainer


def train_epoch(trainer: nnUNetTrainer) -> None:
    """One step of training and one of validation on noise, logged as nnU-Net does."""
    shape = trainer.configuration_manager.patch_size
    target = torch.randint(0, 3, (2, 1, *shape)).float()
    scales = trainer._get_deep_supervision_scales() or [[1] * len(shape)]
    sizes = [[int(s * size) for s, size in zip(scale, shape, strict=True)] for scale in scales]
    levels = [torch.nn.functional.interpolate(target, size=size, mode="nearest-exact") for size in sizes]
    batch = {
        "data": torch.randn(2, trainer.num_input_channels, *shape),
        "target": levels if trainer.enable_deep_supervision else target,
    }
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(batch)])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(batch)])
    trainer._best_ema = trainer.logger.get_value("ema_fg_dice", step=-1)


def saved(trainer: nnUNetTrainer, file: Path) -> Path:
    """Its checkpoint."""
    file.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(file))
    return file

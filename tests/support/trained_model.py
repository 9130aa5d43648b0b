"""A model folder as nnUNetv2_train leaves it, of networks that were never trained: predictions need no more."""

import json
import os
from pathlib import Path

import torch
from tiny_dataset import LABELS

PATCH = [16, 32, 16]
"""Of the tiny dataset's 20 × 24 × 20 voxels: several windows along two axes, padding along the third."""


def write_model(dataset: str, labels: dict = LABELS, configuration: str = "3d_fullres", folds: int = 2) -> Path:
    """Plan a tiny dataset whose fingerprint is extracted, and write a checkpoint of random weights for each fold."""
    from missu_nnunet.planning.planners import MISSUPlannerCPU
    from missu_nnunet.training.variants import MISSUTrainer

    folders = {name: Path(os.environ[f"nnUNet_{name}"]) / dataset for name in ("raw", "preprocessed", "results")}
    planner = MISSUPlannerCPU(dataset)
    planner.UNet_base_num_features = 4
    planner.plans_identifier = f"Untrained{'Regions' if 'whole' in labels else ''}"
    planner.plan_experiment()
    plans = json.loads((folders["preprocessed"] / f"{planner.plans_identifier}.json").read_text())
    plans["configurations"][configuration]["patch_size"] = PATCH if configuration != "2d" else PATCH[1:]
    content = json.loads((folders["raw"] / "dataset.json").read_text()) | {"labels": labels}
    if "whole" in labels:
        content["regions_class_order"] = [1, 2]
    data = folders["preprocessed"] / plans["configurations"][configuration]["data_identifier"]
    data.mkdir(parents=True, exist_ok=True)
    (data / "case.b2nd").touch()  # by which nnU-Net tells the storage format
    model = folders["results"] / f"MISSUTrainer__{planner.plans_identifier}__{configuration}"
    for fold in range(folds):
        torch.manual_seed(fold)
        trainer = MISSUTrainer(plans | {"continue_training": False}, configuration, fold, content, torch.device("cpu"))
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # which axes may be mirrored
        with torch.no_grad():
            for parameter in trainer.network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        trainer.save_checkpoint(str(model / f"fold_{fold}" / "checkpoint_final.pth"))
    (data / "case.b2nd").unlink()
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(content))
    return model

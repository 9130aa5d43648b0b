"""Result folders as nnU-Net lays them out: models with folds, validation, plans, checkpoints and logs."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

LABELS = {"background": 0, "head": 1, "tail": 2}
CASES = tuple(f"case_{index}" for index in range(8))
DATASET = "Dataset905_Results"
LOG = """
2026-01-01 10:00:00.000000: Epoch 0
2026-01-01 10:00:00.000000: Current learning rate: 0.01
2026-01-01 10:00:01.000000: loss terms: segmentation 0.6054, auxiliary heads -0.0680, distillation 0.5295
2026-01-01 10:00:02.000000: train_loss 1.0714
2026-01-01 10:00:02.000000: val_loss 0.2523
2026-01-01 10:00:02.000000: Pseudo dice [np.float32(0.5), np.float32(0.7)]
2026-01-01 10:00:03.000000: Epoch 1
2026-01-01 10:00:03.000000: Current learning rate: 0.005
2026-01-01 10:00:04.000000: train_loss 0.5
"""


def write_image(array: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(file))


def segmentation(length: int, shape: tuple[int, ...] = (10, 12, 40)) -> np.ndarray:
    """A bar of ``length`` voxels along the last axis: its first half is head, the rest tail."""
    labels = np.zeros(shape, np.uint8)
    inner = tuple(slice(3, size - 3) for size in shape[:-1])
    labels[(*inner, slice(2, 12))] = 1
    labels[(*inner, slice(12, 2 + length))] = 2
    return labels


def write_dataset_json(folder: Path, labels: dict = LABELS, ending: str = ".nii.gz") -> None:
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 8, "file_ending": ending}
    if any(isinstance(value, list) for value in labels.values()):
        content["regions_class_order"] = [1, 2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


def write_raw(root: Path, shape: tuple[int, ...] = (10, 12, 40), ending: str = ".nii.gz") -> None:
    """Images and references of all cases, in nnUNet_raw and in gt_segmentations."""
    rng = np.random.default_rng(0)
    raw = root / "nnUNet_raw" / DATASET
    for case in CASES:
        labels = segmentation(30, shape)
        write_image(labels, root / "gt_segmentations" / f"{case}{ending}")
        image = (60 * labels + rng.integers(0, 60, shape)).astype(np.uint8)
        write_image(image, raw / "imagesTr" / f"{case}_0000{ending}")


def write_model(
    root: Path,
    trainer: str,
    short_by: int,
    labels: dict = LABELS,
    shape: tuple[int, ...] = (10, 12, 40),
    ending: str = ".nii.gz",
) -> Path:
    """A model of two folds, whose predictions end ``short_by`` voxels before the references, more in later cases.

    Fold 0 has a checkpoint, fold 1 a training log only.
    """
    model = root / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__3d_fullres"
    write_dataset_json(model, labels, ending)
    for fold in (0, 1):
        validation = model / f"fold_{fold}" / "validation"
        for index, case in list(enumerate(CASES))[fold::2]:
            write_image(segmentation(30 - short_by - index // 2, shape), validation / f"{case}{ending}")
        reference = {"reference_file": str(root / "gt_segmentations" / f"{CASES[0]}{ending}"), "metrics": {}}
        (validation / "summary.json").write_text(json.dumps({"metric_per_case": [reference]}))
    configuration = {
        "patch_size": [8, 8, 16],
        "batch_size": 2,
        "spacing": [1.0, 1.0, 1.0],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {"n_stages": 2, "features_per_stage": [4, 8]},
            "_kw_requires_import": [],
        },
    }
    plans = {"dataset_name": DATASET, "plans_name": "nnUNetPlans", "configurations": {"3d_fullres": configuration}}
    (model / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": {"weight": torch.zeros(3, 4)},
        "init_args": {"plans": plans, "dataset_json": {}, "configuration": "3d_fullres", "fold": 0},
        "trainer_name": trainer,
        "current_epoch": 3,
        "logging": {
            "train_losses": [np.float32(0.5), np.float32(0.0), np.float32(-0.5)],
            "val_losses": [np.float32(0.4), np.float32(0.1), np.float32(-0.4)],
            "mean_fg_dice": [np.float32(0.1), np.float32(0.5), np.float32(0.7)],
            "ema_fg_dice": [np.float32(0.1), np.float32(0.14), np.float32(0.2)],
            "lrs": [0.01, 0.005, 0.001],
            "kd_loss": [0.5, 0.4, 0.3],
            "epoch_start_timestamps": [0.0, 10.0, 20.0],
            "epoch_end_timestamps": [9.0, 18.0, 30.0],
        },
        "missu": {"version": "0.1.0", "hyperparameters": {"w_kd": 0.4}},
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    (model / "fold_1" / "training_log_2026_1_1_10_00_00.txt").write_text(LOG)
    return model

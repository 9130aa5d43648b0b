"""A model's folder with the probabilities of its validation, which are too sure by a known temperature."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE = (12, 14, 10)


def write_validation(folder: Path, labels: dict, temperature: float = 3) -> tuple[Path, Path]:
    """A model's folder whose folds' validation was too sure of itself, and the folder of its references."""
    model, references = folder / "MISSUTrainer__nnUNetPlans__3d_fullres", folder / "gt_segmentations"
    references.mkdir(parents=True)
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
    dataset["regions_class_order"] = [1, 2]
    model.mkdir()
    (model / "dataset.json").write_text(json.dumps(dataset))
    plans = {"image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager", "configurations": {}}
    (model / "plans.json").write_text(json.dumps(plans))
    random = np.random.default_rng(0)
    for case in range(4):
        true = random.normal(scale=2, size=(3, *SHAPE))
        true[0, :3] += 100  # sure background
        probabilities = np.exp(true) / np.exp(true).sum(axis=0)
        segmentation = (random.random(SHAPE) > probabilities.cumsum(axis=0)).sum(axis=0).astype(np.uint8)
        sharp = true * temperature
        values = np.exp(sharp - sharp.max(axis=0))
        values /= values.sum(axis=0)
        if "whole" in labels:
            values = np.stack([values[1:].sum(axis=0), values[2]])
        validation = model / f"fold_{case % 2}" / "validation"
        validation.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(validation / f"case_{case}.npz", probabilities=values.astype(np.float32))
        sitk.WriteImage(sitk.GetImageFromArray(segmentation), str(references / f"case_{case}.nii.gz"))
    return model, references

"""Tiny datasets in nnU-Net's raw format: two nested boxes in noise, learnable within a few iterations."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

LABELS = {"background": 0, "shell": 1, "core": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


def write_raw_dataset(
    nnunet_raw: Path,
    dataset_id: int,
    labels: dict | None = None,
    shape: tuple[int, int, int] = (20, 24, 20),
    channels: int = 1,
    file_ending: str = ".nii.gz",
) -> str:
    """Write 6 cases and return the dataset's name.

    ``labels`` is the entry of dataset.json; with regions their order is declared, with ``ignore`` the label 3 covers a
    few slices. PNG files hold one slice of each volume.
    """
    labels = labels or LABELS
    name = f"Dataset{dataset_id:03d}_Tiny"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (nnunet_raw / name / folder).mkdir(parents=True)
    rng = np.random.default_rng(dataset_id)
    for case in range(6):
        corner = rng.integers(3, 6, size=3)
        label = np.zeros(shape, np.uint8)
        label[tuple(slice(c, c + 12) for c in corner)] = 1
        label[tuple(slice(c + 3, c + 9) for c in corner)] = 2
        images = (label + rng.normal(scale=0.2, size=(channels, *shape))).astype(np.float32)
        if "ignore" in labels:
            label[:2] = 3
        _write(label, nnunet_raw / name / "labelsTr" / f"case_{case:03d}{file_ending}")
        for channel, image in enumerate(images):
            for folder in ("imagesTr", "imagesTs")[: 1 + (case < 2)]:
                _write(image, nnunet_raw / name / folder / f"case_{case:03d}_{channel:04d}{file_ending}")
    names = {str(channel): "MRI" for channel in range(channels)}
    dataset = {"channel_names": names, "labels": labels, "numTraining": 6, "file_ending": file_ending}
    if any(isinstance(value, list) for value in labels.values()):
        dataset["regions_class_order"] = [1, 2]
    (nnunet_raw / name / "dataset.json").write_text(json.dumps(dataset))
    return name


def _write(array: np.ndarray, file: Path) -> None:
    if file.suffix == ".png":
        grey = array if array.dtype == np.uint8 else np.clip(80 * array + 40, 0, 255).astype(np.uint8)
        Image.fromarray(grey[len(grey) // 2]).save(file)
    elif file.suffix == ".tif":
        tifffile.imwrite(file, array)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file))

"""Segment a NumPy volume with a trained model's folder.

``python examples/predict_array.py MODEL volume.npy segmentation.npy --spacing 2.5 0.8 0.8``

MODEL is what a training leaves, ``nnUNet_results/DATASET/MISSUTrainer__PLANS__CONFIGURATION``; all of its finished
folds vote. The volume has the shape ``(C, D, H, W)``, with the channels in the order of the model's ``dataset.json``.
nnU-Net unpickles checkpoints without restriction: run ``missu inspect`` on one from elsewhere first.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray


def load(model: Path, device: str) -> nnUNetPredictor:
    """nnU-Net's predictor with the final checkpoint of every fold in the model's folder."""
    predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), use_folds=None, checkpoint_name="checkpoint_final.pth")
    return predictor


def segment(predictor: nnUNetPredictor, volume: NDArray[np.float32], spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Labels ``(D, H, W)`` of a volume ``(C, D, H, W)`` whose voxels are ``spacing`` mm apart along D, H and W."""
    properties = {"spacing": list(spacing)}
    return predictor.predict_single_npy_array(volume.astype(np.float32), properties)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("segmentation", type=Path)
    parser.add_argument("--spacing", type=float, nargs=3, required=True, metavar="MM", help="along D, H and W")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    labels = segment(load(arguments.model, arguments.device), np.load(arguments.volume), arguments.spacing)
    np.save(arguments.segmentation, labels)
    names, counts = np.unique(labels, return_counts=True)
    print(", ".join(f"label {name}: {count} voxels" for name, count in zip(names, counts, strict=True)))

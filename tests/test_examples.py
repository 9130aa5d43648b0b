"""The examples run as they stand, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_network_learns_in_a_loop_of_ones_own() -> None:
    last = run("own_training_loop.py", "--steps", 25).splitlines()[-1]
    assert float(last.removeprefix("Dice on new images: ")) > 0.8


def test_an_array_is_segmented_as_nnunets_command_segments_its_image(
    nnunet_folders: Path, tiny_dataset: str, model: Path, tmp_path: Path
) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    image = nnunet_folders / "nnUNet_raw" / tiny_dataset / "imagesTs" / "case_000_0000.nii.gz"
    np.save(tmp_path / "volume.npy", sitk.GetArrayFromImage(sitk.ReadImage(str(image)))[None])
    run("predict_array.py", model, tmp_path / "volume.npy", tmp_path / "found.npy", "--spacing", 1, 1, 1)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), None, "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "expected")])
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "expected.nii.gz")))
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)

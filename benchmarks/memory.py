"""Memory of a training, estimated and kept, and of predicting a large volume.

    python benchmarks/memory.py training
    python benchmarks/memory.py prediction --edge 512

Each prints a table in Markdown.

``training`` holds the planner's estimate against the bytes that autograd really keeps for the backward pass; takes a
minute on a CPU. Bytes are float32, without weights and loss; plans come from nnU-Net's own topology rule. The error is
(estimate - kept) / kept.

``prediction`` predicts a volume of EDGE × EDGE × 0.78 EDGE voxels with 30 classes and a small network that was never
trained, with ``nnUNetv2_predict`` and ``missu predict``, and prints the peak memory of all processes of either command
together (Linux alone: their proportional set sizes, looked at twenty times a second). What libraries take is in both:
so the last column gives the ratio beyond what the same command needs for a volume of a single patch.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.planning.memory import count_activation_bytes, estimate_activation_bytes

BATCH_SIZE = 2
CASES = [  # spacing, patch, base features, residual encoder
    ((1, 1, 1), (32, 40, 32), 16, False),
    ((1, 1, 1), (40, 56, 40), 32, False),
    ((1, 1, 1), (64, 64, 64), 32, False),
    ((3, 1, 1), (16, 96, 96), 32, False),
    ((1, 1, 1), (40, 56, 40), 32, True),
    ((3, 1, 1), (16, 96, 96), 16, True),
    ((1, 1), (256, 256), 32, False),
    ((1, 1), (512, 64), 32, True),
]


CLASSES = 30
PATCH = (32, 64, 64)
PAPER_PLANS = Path(__file__).parents[1] / "plans" / "nnUNetMISSUPlansPaper.json"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "prediction"))
    parser.add_argument("--edge", type=int, default=512, help="of the volume to predict; its depth is 0.78 of it")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n")
    if options.what == "training":
        training()
    else:
        prediction(options.edge)


def training() -> None:
    """Print the table, for batches of ``BATCH_SIZE``, and the largest error."""
    print("| patch | encoder, features | network | estimate [MiB] | kept [MiB] | error |\n|---|---|---|---|---|---|")
    errors = []
    for spacing, patch, features, residual in CASES:
        plan_kwargs, patch_size = unet_plan(spacing, patch, features, residual)
        kwargs = missu_arch_kwargs(plan_kwargs, patch_size)
        missu = MISSU(1, num_classes=3, deep_supervision=True, **kwargs)
        networks: dict[str, Any] = {"MISSU": missu}
        if not residual:
            networks = {
                "PlainConvUNet": PlainConvUNet(1, num_classes=3, deep_supervision=True, **plan_kwargs)
            } | networks
        for name, network in networks.items():
            kept = count_activation_bytes(network, torch.randn(BATCH_SIZE, 1, *patch_size))
            estimate = estimate_activation_bytes(network, patch_size, BATCH_SIZE, bytes_per_element=4)
            errors.append(estimate / kept - 1)
            row = (
                "×".join(map(str, patch_size)),
                f"{'residual' if residual else 'plain'}, {features}",
                name,
                f"{estimate / 2**20:.0f}",
                f"{kept / 2**20:.0f}",
                f"{errors[-1]:+.1%}",
            )
            print(f"| {' | '.join(row)} |")
    print(f"\nLargest error {max(np.abs(errors)):.1%}, mean error {np.mean(errors):+.1%}.")


def prediction(edge: int) -> None:
    """Peak memory of predicting a volume, at the plan's spacing and at two thirds of it."""
    depth = edge * 400 // 512
    print(f"{edge}×{edge}×{depth} voxels, {CLASSES} classes\n")
    print("| | nnUNetv2_predict [MiB] | missu predict [MiB] | ÷ | ÷, beyond a volume of one patch |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        model = write_model(folder)
        for words, spacing in (("no resampling", 1.0), ("resampled by 1.5", 2 / 3)):
            peaks = []
            for shape in (tuple(round(size / spacing) for size in PATCH), (depth, edge, edge)):
                images = write_image(folder / f"{words}_{shape[0]}", shape, spacing)
                peaks.append([peak_bytes(command) / 2**20 for command in commands(model, images, folder / "out")])
            (stock_small, missu_small), (stock, missu) = peaks
            beyond = (missu - missu_small) / (stock - stock_small)
            print(f"| {words} | {stock:.0f} | {missu:.0f} | {missu / stock:.2f} | {beyond:.2f} |", flush=True)


def write_model(folder: Path) -> Path:
    """A trained model's folder as nnU-Net leaves it; its weights are random."""
    plans = json.loads(PAPER_PLANS.read_text()) | {"foreground_intensity_properties_per_channel": {"0": {}}}
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {
        "patch_size": PATCH,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
    }
    arch_kwargs = configuration["architecture"]["arch_kwargs"]
    arch_kwargs |= {"features_per_stage": [4, 8, 16, 32], "transformer": None}
    labels = {"background": 0} | {f"class {label}": label for label in range(1, CLASSES)}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    network = get_network_from_plans(
        configuration["architecture"]["network_class_name"],
        arch_kwargs,
        configuration["architecture"]["_kw_requires_import"],
        1,
        CLASSES,
    )
    model = folder / "nnUNetTrainer__nnUNetMISSUPlansPaper__3d_fullres"
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "plans": plans, "dataset_json": dataset, "fold": 0},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    return model


def write_image(folder: Path, shape: tuple[int, ...], spacing: float) -> Path:
    """A folder with one volume of noise."""
    folder.mkdir()
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(folder / "case_0000.nii.gz"), useCompression=False)
    return folder


def commands(model: Path, images: Path, output: Path) -> list[list[str]]:
    """nnU-Net's command and ours for the same prediction, without mirroring or overlapping windows."""
    scripts = Path(sys.executable).parent
    stock = [str(scripts / "nnUNetv2_predict_from_modelfolder"), "-i", str(images), "-o", str(output), "-m", str(model)]
    missu = [str(scripts / "missu"), "predict", str(images), "-o", str(output), "-m", str(model), "-f", "0"]
    return [
        [*stock, "-f", "0", "-step_size", "1", "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"],
        [*missu, "--step", "1", "--no-tta", "--device", "cpu", "--engine", "pytorch"],
    ]


def peak_bytes(command: list[str]) -> int:
    """Highest memory of a command's processes together."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(proportional_bytes(pid) for pid in descendants(process.pid)))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return peak


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [below for child in task.read_text().split() for below in descendants(int(child))]
        except OSError:  # it has ended meanwhile
            continue
    return found


def proportional_bytes(pid: int) -> int:
    """Memory of a process, of shared pages its share; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()

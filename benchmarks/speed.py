"""What MISSU costs beside its peers: parameters, operations, forward pass, training step, memory.

    python benchmarks/speed.py networks             # MISSU and its peers on one patch
    python benchmarks/speed.py patches              # MISSU and nnU-Net's U-Net as the patch grows
    python benchmarks/speed.py distillation         # a training step of MISSU with and without its teachers
    python benchmarks/speed.py start                # importing the package, and asking the command for help
    python benchmarks/speed.py predict MODEL MODEL --images FOLDER   # nnUNetv2_predict with two trained models

Prints a table in Markdown; ``--device cuda`` measures under AMP. Networks take turns, and are compared by the ratios
within a round: their median, and a bootstrap 95 % interval. Memory is the peak of a training step on CUDA, elsewhere
what autograd keeps for the backward pass.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from monai.networks.nets import UNETR, MedNeXtS, SegResNet, SwinUNETR
from torch import nn
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import planned_arch_kwargs
from missu_nnunet.benchmark import TAUGHT, Cost, measure, plan_networks, ratio

REFERENCE = "PlainConvUNet"
CHANNELS, CLASSES = 1, 3
FEATURES = 32
"""Of the first stage, as nnU-Net plans it; ``MISSUPlannerCPU`` plans half of them."""
PATCHES = (((32, 32, 32), FEATURES // 2), *(((edge, edge, edge), FEATURES) for edge in (32, 64, 96, 128, 160)))
"""With the features of the first stage."""


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("networks", "patches", "distillation", "start", "predict"))
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL", help="folders of trained models (predict)")
    parser.add_argument("--images", type=Path, help="folder of images (predict)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "nnunetv2", "monai"))
    print(f"{machine(options.device)}, Python {platform.python_version()}, {packages}; {options.rounds} rounds\n")
    if options.what == "networks":
        networks(options.device, options.rounds)
    elif options.what == "patches":
        patches(options.device, options.rounds)
    elif options.what == "distillation":
        distillation(options.device, options.rounds)
    elif options.what == "start":
        start(options.rounds)
    else:
        predict(options.models, options.images, options.device, options.rounds)


def machine(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def unets(patch: tuple[int, ...], features: int) -> dict[str, Callable[[], nn.Module]]:
    """nnU-Net's U-Net and MISSU without and with self-distillation, each as its planner plans it."""
    kwargs, patch_size = unet_plan((1, 1, 1), patch, features)
    missu_kwargs = planned_arch_kwargs(kwargs, patch_size)
    stock = plan_networks(kwargs, (), patch_size, CHANNELS, CLASSES)
    missu = plan_networks(missu_kwargs, (), patch_size, CHANNELS, CLASSES)
    return {REFERENCE: stock[REFERENCE]} | {name: missu[name] for name in missu if name.startswith("MISSU")}


def networks(device: torch.device, rounds: int) -> None:
    """MISSU and its peers on a patch of 64³, two patches per training step."""
    patch = (64, 64, 64)
    residual, _ = unet_plan((1, 1, 1), patch, FEATURES, residual=True)
    peers: dict[str, Callable[[], nn.Module]] = {
        "ResEnc-M": lambda: ResidualEncoderUNet(CHANNELS, num_classes=CLASSES, deep_supervision=True, **residual),
        "Primus-S": lambda: Primus(CHANNELS, 396, (8, 8, 8), CLASSES, 12, 6, patch, init_values=0.1),
        "UNETR": lambda: UNETR(CHANNELS, CLASSES, patch),
        "SwinUNETR": lambda: SwinUNETR(CHANNELS, CLASSES, feature_size=48),
        "SegResNet": lambda: SegResNet(in_channels=CHANNELS, out_channels=CLASSES, init_filters=32),
        "MedNeXt-S": lambda: MedNeXtS(in_channels=CHANNELS, out_channels=CLASSES),
    }
    print(f"Patch {'×'.join(map(str, patch))}, {FEATURES} features in the first stage.\n")
    costs = measure(unets(patch, FEATURES) | peers, CHANNELS, CLASSES, patch, 2, device, rounds)
    print_costs(costs)
    forward = {cost.name: cost.forward for cost in costs}
    print(f"\nForward, MISSU ÷ SwinUNETR: {ratio(forward['MISSU'], forward['SwinUNETR'])}")


def print_costs(costs: list[Cost]) -> None:
    """One row per network, ratios to the first."""
    print(f"| network | parameters | GMAC | forward [ms] | ÷ {costs[0].name} | step [ms] | ÷ {costs[0].name} | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for cost in costs:
        forward, step = (np.median(times) * 1000 for times in (cost.forward, cost.step))
        row = (
            cost.name,
            f"{cost.parameters / 1e6:.2f} M",
            f"{cost.macs / 1e9:.1f}",
            f"{forward:.0f}",
            ratio(cost.forward, costs[0].forward),
            f"{step:.0f}",
            ratio(cost.step, costs[0].step),
            f"{cost.training_bytes / 2**20:.0f}",
        )
        print("|", " | ".join(map(str, row)), "|", flush=True)


def patches(device: torch.device, rounds: int) -> None:
    """Forward pass of MISSU and nnU-Net's U-Net from 32³ to 160³, and MISSU's time per voxel."""
    print("| patch | features | parameters | ÷ U-Net | GMAC | ÷ U-Net | forward [s] | ÷ U-Net | µs per voxel |")
    print("|---|---|---|---|---|---|---|---|---|")
    for patch, features in PATCHES:
        chosen = {name: build for name, build in unets(patch, features).items() if name != TAUGHT}
        unet, missu = measure(chosen, CHANNELS, CLASSES, patch, 1, device, rounds, training=False)
        seconds = np.median(missu.forward)
        row = (
            "×".join(map(str, patch)),
            features,
            f"{missu.parameters / 1e6:.2f} M",
            f"{missu.parameters / unet.parameters:.2f}",
            f"{missu.macs / 1e9:.1f}",
            f"{missu.macs / unet.macs:.2f}",
            f"{seconds:.3f}",
            ratio(missu.forward, unet.forward),
            f"{seconds / np.prod(patch) * 1e6:.2f}",
        )
        print("|", " | ".join(map(str, row)), "|", flush=True)


def distillation(device: torch.device, rounds: int) -> None:
    """Training steps of MISSU without and with its teacher, which is there where labels are missing; two patches."""
    print("| patch | without [ms] | with [ms] | with ÷ without | without [MiB] | with [MiB] | with ÷ without |")
    print("|---|---|---|---|---|---|---|")
    for patch, features in (((32, 32, 32), FEATURES // 2), ((64, 64, 64), FEATURES)):
        chosen = {name: build for name, build in unets(patch, features).items() if name != REFERENCE}
        without, taught = measure(chosen, CHANNELS, CLASSES, patch, 2, device, rounds)
        row = (
            "×".join(map(str, patch)),
            *(f"{np.median(cost.step) * 1000:.0f}" for cost in (without, taught)),
            ratio(taught.step, without.step),
            *(f"{cost.training_bytes / 2**20:.0f}" for cost in (without, taught)),
            f"{taught.training_bytes / without.training_bytes:.2f}",
        )
        print("|", " | ".join(map(str, row)), "|", flush=True)


def start(rounds: int) -> None:
    """Wall clock of a fresh process."""
    print("| command | seconds |\n|---|---|")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import missu_nnunet'": [sys.executable, "-c", "import missu_nnunet"],
        "missu --help": [str(Path(sys.executable).parent / "missu"), "--help"],
    }
    for name, command in commands.items():
        print(f"| `{name}` | {np.median([seconds(command) for _ in range(rounds)]):.2f} |", flush=True)


def predict(models: list[Path], images: Path, device: torch.device, rounds: int) -> None:
    """``nnUNetv2_predict_from_modelfolder`` over a folder of images with each model in turn."""
    if len(models) != 2 or images is None:
        sys.exit("predict: give two folders of trained models, and --images")
    command = [str(Path(sys.executable).parent / "nnUNetv2_predict_from_modelfolder"), "-f", "0", "-i", str(images)]
    times: dict[Path, list[float]] = {model: [] for model in models}
    for _ in range(rounds):
        for model in models:
            with tempfile.TemporaryDirectory() as output:
                line = [*command, "-o", output, "-m", str(model), "-device", device.type]
                times[model].append(seconds(line))
    print("| model | seconds | ÷ first |\n|---|---|---|")
    for model in models:
        print(f"| {model.name} | {np.median(times[model]):.1f} | {ratio(times[model], times[models[0]])} |")


def seconds(command: list[str]) -> float:
    """Wall clock of a command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"nnUNet_wandb_enabled": "0"})
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()

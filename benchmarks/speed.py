"""What MISSU costs beside its peers: parameters, operations, forward pass, training step, memory.

    python benchmarks/speed.py networks             # MISSU and its peers on one patch
    python benchmarks/speed.py patches              # MISSU and nnU-Net's U-Net as the patch grows
    python benchmarks/speed.py distillation         # a training step of MISSU with and without its teachers
    python benchmarks/speed.py parts                # where MISSU's forward pass takes its time
    python benchmarks/speed.py start                # importing the package, and asking the command for help
    python benchmarks/speed.py predict MODEL MODEL --images FOLDER   # nnUNetv2_predict with two trained models
    python benchmarks/speed.py engines MODEL --images FOLDER         # nnUNetv2_predict and missu predict with one

Prints a table in Markdown; ``--device cuda`` measures under AMP. Networks take turns, and are compared by the ratios
within a round: their median, and a bootstrap 95 % interval. Memory is the peak of a training step on CUDA, elsewhere
what autograd keeps for the backward pass.
"""

import argparse
import copy
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from monai.networks.nets import UNETR, MedNeXtS, SegResNet, SwinUNETR
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import planned_arch_kwargs
from missu_nnunet.network_costs import TAUGHT, Cost, measure, plan_networks, ratio

REFERENCE = "PlainConvUNet"
STOCK = "nnUNetv2_predict"
CHANNELS, CLASSES = 1, 3
FEATURES = 32
"""Of the first stage, as nnU-Net plans it; ``MISSUPlannerCPU`` plans half of them."""
PATCHES = (((32, 32, 32), FEATURES // 2), *(((edge, edge, edge), FEATURES) for edge in (32, 64, 96, 128, 160)))
"""With the features of the first stage."""


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("networks", "patches", "distillation", "parts", "start", "predict", "engines"))
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL", help="folders of trained models")
    parser.add_argument("--images", type=Path, help="folder of images to predict")
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
    elif options.what == "parts":
        parts(options.device, options.rounds)
    elif options.what == "start":
        start(options.rounds)
    elif len(options.models) != (2 if options.what == "predict" else 1) or options.images is None:
        sys.exit("give two folders of trained models to predict, one to engines, and --images")
    elif options.what == "predict":
        predict(options.models, options.images, options.device, options.rounds)
    else:
        engines(options.models[0], options.images, options.rounds)


def machine(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def unets(patch: tuple[int, ...], features: int) -> dict[str, Callable[[], nn.Module]]:
    """nnU-Net's U-Net and MISSU without and with self-distillation, each as its planner plans it."""
    kwargs, patch_size = unet_plan((1,) * len(patch), patch, features)
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
    """Training steps of nnU-Net's U-Net, and of MISSU without and with its teacher, which is there where labels are
    missing; two patches each."""
    print(f"| patch | without [ms] | ÷ {REFERENCE} | with [ms] | with ÷ without | without [MiB] | with [MiB] | ÷ |")
    print("|---|---|---|---|---|---|---|---|")
    for patch, features in (((32, 32, 32), FEATURES // 2), ((256, 256), FEATURES), ((64, 64, 64), FEATURES)):
        unet, without, taught = measure(unets(patch, features), CHANNELS, CLASSES, patch, 2, device, rounds)
        row = (
            "×".join(map(str, patch)),
            f"{np.median(without.step) * 1000:.0f}",
            ratio(without.step, unet.step),
            f"{np.median(taught.step) * 1000:.0f}",
            ratio(taught.step, without.step),
            *(f"{cost.training_bytes / 2**20:.0f}" for cost in (without, taught)),
            f"{taught.training_bytes / without.training_bytes:.2f}",
        )
        print("|", " | ".join(map(str, row)), "|", flush=True)


def parts(device: torch.device, rounds: int) -> None:
    """MISSU's forward pass on 64³, part by part, and operations per second against a large convolution and matmul."""
    patch = (64, 64, 64)
    network = unets(patch, FEATURES)["MISSU"]().to(device).eval()
    network.decoder.deep_supervision = False
    x = torch.randn(1, CHANNELS, *patch, device=device)
    macs = macs_of_parts(network, x)
    matrix = torch.randn(2048, 2048, device=device)
    convolution, features = nn.Conv3d(128, 128, 3, padding=1).to(device), torch.randn(1, 128, 32, 32, 32, device=device)
    peaks: dict[str, tuple[Callable[[], object], int]] = {
        "matmul of 2048²": (lambda: matrix @ matrix, 2048**3),
        "3³ convolution, 128 channels, 32³": (lambda: convolution(features), 32**3 * 27 * 128**2),
    }
    rates: dict[str, list[float]] = {name: [] for name in (*peaks, *macs)}
    seconds_of: dict[str, list[float]] = {name: [] for name in macs}
    with torch.inference_mode():
        for index in range(rounds + 1):
            times = {name: timed(work, device) for name, (work, _) in peaks.items()} | time_parts(network, x)
            if not index:  # of warming up
                continue
            for name, taken in times.items():
                rates[name].append((peaks[name][1] if name in peaks else macs[name]) / taken / 1e9)
                if name in macs:
                    seconds_of[name].append(taken)
    total = sum(np.median(taken) for taken in seconds_of.values())
    print(f"| part | GMAC | ms | of the time | GMAC/s | ÷ {' | ÷ '.join(peaks)} |")
    print(f"|---|---|---|---|---|{'---|' * len(peaks)}")
    for name, (_, count) in peaks.items():
        print(f"| {name} | {count / 1e9:.1f} | | | {np.median(rates[name]):.1f} | {' | '.join([''] * len(peaks))} |")
    for name, count in macs.items():
        shares = [f"{np.median(np.divide(rates[name], rates[peak])):.2f}" for peak in peaks]
        taken = np.median(seconds_of[name])
        cells = (f"{count / 1e9:.2f}", f"{taken * 1e3:.0f}", f"{taken / total:.0%}", f"{np.median(rates[name]):.1f}")
        print("|", " | ".join((name, *cells, *shares)), "|")


def part_modules(network: nn.Module) -> dict[str, nn.Module]:
    """The parts that a forward pass of MISSU goes through, one after the other."""
    encoder: Any = network.encoder
    decoder: Any = network.decoder
    found = {"encoder stem": encoder.stem}
    found |= {f"encoder stage {index}": stage for index, stage in enumerate(encoder.stages)}
    found["Transformer"] = network.bottleneck
    levels = len(decoder.stages)
    for index, (up, stage) in enumerate(zip(decoder.transpconvs, decoder.stages, strict=True)):
        found |= {f"decoder up to {levels - 1 - index}": up, f"decoder stage {levels - 1 - index}": stage}
    return found | {"logits": decoder.seg_layers[-1]}


def macs_of_parts(network: nn.Module, x: torch.Tensor) -> dict[str, int]:
    """Multiply-accumulate operations of each part."""
    network = copy.deepcopy(network).to("meta")  # where attention is counted too
    names = {module: name for name, module in network.named_modules()}
    with FlopCounterMode(display=False, depth=99) as counter, torch.inference_mode():
        network(x.to("meta"))
    counts = counter.get_flop_counts()
    root = type(network).__name__
    return {
        name: sum(counts.get(f"{root}.{names[module]}", {}).values()) // 2
        for name, module in part_modules(network).items()
    }


def time_parts(network: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Seconds of each part in a forward pass."""
    times: dict[str, float] = {}
    handles = []

    def stop(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            times[name] = seconds_now(x.device) - times[name]

        return hook

    def begin(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            times[name] = seconds_now(x.device)

        return hook

    for name, module in part_modules(network).items():
        handles += [module.register_forward_pre_hook(begin(name)), module.register_forward_hook(stop(name))]
    with torch.inference_mode():
        network(x)
    for handle in handles:
        handle.remove()
    return times


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of some work on the device."""
    begin = seconds_now(device)
    work()
    return seconds_now(device) - begin


def seconds_now(device: torch.device) -> float:
    """The clock when the device has done its work; of a single thread the processor's time, as in ``measure``."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


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
    times: dict[Path, list[float]] = {model: [] for model in models}
    for _ in range(rounds):
        for model in models:
            with tempfile.TemporaryDirectory() as output:
                times[model].append(seconds(nnunet_predict(model, images, Path(output), device)))
    print("| model | seconds | ÷ first |\n|---|---|---|")
    for model in models:
        print(f"| {model.name} | {np.median(times[model]):.1f} | {ratio(times[model], times[models[0]])} |")


def nnunet_predict(model: Path, images: Path, output: Path, device: torch.device) -> list[str]:
    """The command that predicts with fold 0 of a model."""
    command = str(Path(sys.executable).parent / "nnUNetv2_predict_from_modelfolder")
    options = {"-i": images, "-o": output, "-m": model, "-f": 0, "-device": device.type}
    return [command, *(str(word) for option in options.items() for word in option)]


def engines(model: Path, images: Path, rounds: int) -> None:
    """nnU-Net's prediction of a folder on the CPU, and ``missu predict`` with each engine: time and segmentations."""
    from missu_nnunet.prediction.engines.openvino import openvino

    names = [STOCK, "pytorch", "openvino"]
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        names.append("openvino-bf16")
    missu = [str(Path(sys.executable).parent / "missu"), "predict", str(images), "-m", str(model), "-f", "0"]
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as root:
        for _ in range(rounds):
            for name in names:
                output = Path(root) / name
                if name == STOCK:
                    command = nnunet_predict(model, images, output, torch.device("cpu"))
                else:
                    command = [*missu, "-o", str(output), "--device", "cpu", "--engine", name]
                times[name].append(seconds(command))
        print(f"| command | seconds | ÷ {STOCK} | voxels that differ | Dice of the least alike case |")
        print("|---|---|---|---|---|")
        for name in names:
            different, dice = agreement(Path(root) / name, Path(root) / STOCK)
            shown = name if name == STOCK else f"missu predict --engine {name}"
            print(
                f"| `{shown}` | {np.median(times[name]):.1f} | {ratio(times[name], times[STOCK])} | {different:.2e} | "
                f"{dice:.5f} |"
            )


def agreement(output: Path, expected: Path) -> tuple[float, float]:
    """Share of voxels that differ between the segmentations of two folders, and the lowest Dice of a case's foreground
    classes with each other."""
    different, voxels, lowest = 0, 0, 1.0
    files = [file for file in expected.iterdir() if file.name.endswith((".nii.gz", ".mha", ".nrrd"))]
    for file in files:
        one, other = (sitk.GetArrayFromImage(sitk.ReadImage(str(place / file.name))) for place in (output, expected))
        different += int((one != other).sum())
        voxels += one.size
        dices = [
            2 * ((one == label) & (other == label)).sum() / ((one == label).sum() + (other == label).sum())
            for label in np.union1d(one, other)
            if label
        ]
        lowest = min([lowest, float(np.mean(dices))] if dices else [lowest])
    return different / voxels, lowest


def seconds(command: list[str]) -> float:
    """Wall clock of a command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"nnUNet_wandb_enabled": "0"})
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()

"""Finds out whether MISSU can be trained with nnU-Net here, and what to do where it cannot."""

import contextlib
import importlib.metadata
import io
import multiprocessing
import os
import platform
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from missu_nnunet import __version__
from missu_nnunet.extras import missing_libraries
from missu_nnunet.machine import fastest_device, physical_memory
from missu_nnunet.nnunet.folders import Variable, folder_if_set
from missu_nnunet.text import first_line

_GIB = 1024**3
_LITTLE_DISK = 10 * _GIB

_PATIENCE = 120
"""Seconds that a spawned process may take to answer; it imports nothing but Python's own."""

_NO_TORCH = (ImportError, OSError)
"""What an import of torch raises where it, or a library of its own such as CUDA's, is missing."""


@dataclass(frozen=True)
class Finding:
    """The result of one check. A ``fault`` keeps a training from starting, a ``warning`` does not."""

    name: str
    status: Literal["ok", "warning", "fault"]
    value: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Check versions, discovery, folders and hardware, and try what would otherwise break late; print nothing."""
    findings = [
        Finding("Python", "ok", platform.python_version()),
        Finding("missu-nnunet", "ok", __version__),
        _nnunet_version(),
        _torch_version(),
    ]
    # nnU-Net prints on import and while it searches.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        findings += [_trainer(), _planner()]
    findings += [
        _folder("nnUNet_raw", "warning"),  # a training reads the preprocessed data only
        _folder("nnUNet_preprocessed", "fault"),
        _folder("nnUNet_results", "fault"),
        _device(),
        Finding("CPU cores", "ok", str(os.cpu_count())),
        Finding("RAM", "ok", _ram()),
        _extras(),
        worker(),
    ]
    if device := _best_device():
        findings += [operators(device), compilation(device)]
    return findings


def can_train(findings: list[Finding]) -> bool:
    """Whether no finding is a fault."""
    return all(finding.status != "fault" for finding in findings)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nnunet_version() -> Finding:
    allowed = _allowed("nnunetv2")
    remedy = f"pip install 'nnunetv2{allowed}'"
    version = _version("nnunetv2")
    if version is None:
        return Finding("nnU-Net", "fault", "not installed", remedy)
    if not allowed.contains(version, prereleases=True):
        return Finding("nnU-Net", "fault", f"{version}, expected {allowed}", remedy)
    return Finding("nnU-Net", "ok", version)


def _allowed(distribution: str) -> SpecifierSet:
    """The versions of a distribution that missu-nnunet allows, as its ``setup.cfg`` says."""
    requirements = map(Requirement, importlib.metadata.requires("missu-nnunet") or [])
    return next(found.specifier for found in requirements if found.name == distribution)


def _torch_version() -> Finding:
    version = _version("torch")
    if version is None:
        return Finding("torch", "fault", "not installed", "install it as https://pytorch.org/get-started says")
    return Finding("torch", "ok", version)


def _trainer() -> Finding:
    def search() -> object:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        return recursive_find_trainer_class_by_name("MISSUTrainer")

    remedy = (
        "reinstall missu-nnunet without -e into nnU-Net's environment,"
        " or set nnUNet_extTrainer to the trainers/ folder of its repository"
    )
    found, error = _search(search)
    if not found:
        return Finding("trainer", "fault", f"nnU-Net does not find MISSUTrainer{error}", remedy)
    if _is_below_nnunet("training/nnUNetTrainer/missu"):
        return Finding("trainer", "ok", "MISSUTrainer, installed below nnU-Net")
    return Finding("trainer", "ok", f"MISSUTrainer, nnUNet_extTrainer={os.environ.get('nnUNet_extTrainer')}")


def _planner() -> Finding:
    def search() -> object:
        from nnunetv2 import experiment_planning
        from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

        return recursive_find_python_class(
            experiment_planning.__path__[0], "MISSUPlanner", experiment_planning.__name__
        )

    remedy = "reinstall missu-nnunet without -e into nnU-Net's environment; until then use nnU-Net's own plans"
    found, error = _search(search)
    if not found:
        return Finding("planner", "warning", f"nnU-Net does not find MISSUPlanner{error}", remedy)
    return Finding("planner", "ok", "MISSUPlanner, installed below nnU-Net")


def _search(search: Callable[[], object]) -> tuple[bool, str]:
    """Whether nnU-Net finds a class, and if the search fails, why."""
    try:
        return search() is not None, ""
    except Exception as error:  # the search imports every module on its way, anybody's
        if str(error).startswith("Could not find"):  # nnU-Net's word for a trainer that is nowhere
            return False, ""
        return False, f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"


def _is_below_nnunet(folder: str) -> bool:
    """Whether nnU-Net's package has the folder: it searches the disk, not what can be imported (editable installs)."""
    import nnunetv2

    return (Path(nnunetv2.__path__[0]) / folder).is_dir()


def _folder(variable: Variable, severity: Literal["warning", "fault"]) -> Finding:
    folder = folder_if_set(variable)
    if folder is None:
        return Finding(variable, severity, "not set", f"export {variable}=FOLDER")
    if not folder.is_dir():
        return Finding(variable, severity, f"{folder}, no such folder", f"mkdir -p '{folder}', or set another")
    if not os.access(folder, os.W_OK):
        return Finding(variable, severity, f"{folder}, not writable", "change its permissions, or set another")
    free = shutil.disk_usage(folder).free
    described = f"{folder}, {free / _GIB:.0f} GiB free"
    if free < _LITTLE_DISK:
        return Finding(variable, "warning", described, "preprocessed data and checkpoints may need more: free some")
    return Finding(variable, "ok", described)


def _device() -> Finding:
    try:
        import torch
    except _NO_TORCH as error:
        reason = f"torch cannot be imported ({first_line(error)})"
        return Finding("device", "fault", reason, "reinstall it as https://pytorch.org/get-started says")
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        described = ", ".join(f"{device.name} ({device.total_memory / _GIB:.0f} GiB)" for device in devices)
        return Finding("device", "ok", f"cuda: {described}")
    if torch.backends.mps.is_available():
        return Finding("device", "warning", f"mps: {platform.processor()}", "pass -device mps to nnU-Net's commands")
    return Finding("device", "warning", "cpu", "pass -device cpu to nnU-Net's commands; a GPU is far faster")


def _best_device() -> str | None:
    """The device that nnU-Net trains on here; None without torch."""
    try:
        return fastest_device()
    except _NO_TORCH:
        return None


def _extras() -> Finding:
    missing = missing_libraries()
    there = ", ".join(extra for extra, libraries in missing.items() if not libraries) or "none"
    lacking = [extra for extra, libraries in missing.items() if libraries]
    if not lacking:
        return Finding("extras", "ok", there)
    absent = "; ".join(f"{extra} lacks {', '.join(missing[extra])}" for extra in lacking)
    return Finding("extras", "ok", f"{there}; {absent}", f"if needed: pip install 'missu-nnunet[{','.join(lacking)}]'")


def worker() -> Finding:
    """Spawn a process and have it answer, as nnU-Net does to export predictions at the end of a training."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(os.getpid).result(timeout=_PATIENCE)
    except Exception as error:  # the system's refusals, a worker that was killed, or one that does not answer
        reason = f"cannot be spawned ({type(error).__name__}: {error})"
        remedy = "raise the limits of processes and memory (ulimit -u, a container's --shm-size and --pids-limit)"
        return Finding("worker process", "fault", reason, remedy)
    return Finding("worker process", "ok", "spawned")


def operators(device: str) -> Finding:
    """Train a tiny MISSU for one step on the device, which meets every operator that the network needs.

    Args:
        device: "cuda", "mps" or "cpu".
    """
    import torch

    try:
        network = _tiny_network().to(device)
        with torch.autocast(device, enabled=device == "cuda"):
            network(torch.randn(2, 1, 16, 16, 16, device=device)).square().mean().backward()
    except Exception as error:  # a missing operator, a driver that does not fit, no memory
        remedy = "pass -device cpu to nnU-Net's commands, or install a torch that fits the device"
        if device == "mps":
            remedy = "export PYTORCH_ENABLE_MPS_FALLBACK=1, or pass -device cpu to nnU-Net's commands"
        return Finding(
            "operators", "fault" if device == "cuda" else "warning", f"{device} lacks one: {first_line(error)}", remedy
        )
    return Finding("operators", "ok", f"one training step of a tiny MISSU on {device}")


def compilation(device: str) -> Finding:
    """Compile a tiny MISSU where nnU-Net would compile a network: on CUDA, unless ``nnUNet_compile`` forbids it.

    Args:
        device: "cuda", "mps" or "cpu".
    """
    setting = os.environ.get("nnUNet_compile", "t").lower()
    if setting not in ("true", "1", "t"):
        return Finding("torch.compile", "ok", f"not used, nnUNet_compile={setting}")
    if device != "cuda":
        return Finding("torch.compile", "ok", f"not used, nnU-Net compiles on CUDA only and this is {device}")
    return compiled(device)


def compiled(device: str) -> Finding:
    """Compile a tiny MISSU and run it.

    Args:
        device: "cuda" or "cpu".
    """
    import torch

    try:
        network = torch.compile(_tiny_network().to(device))
        network(torch.randn(2, 1, 16, 16, 16, device=device))
    except Exception as error:  # a missing compiler, Triton or header: each its own kind
        return Finding("torch.compile", "fault", f"fails ({first_line(error)})", "export nnUNet_compile=f")
    return Finding("torch.compile", "ok", "compiled a tiny MISSU")


def _tiny_network() -> Any:
    """A MISSU of two stages and few channels, with every kind of layer."""
    from torch import nn

    from missu_nnunet.architecture.missu import MISSU

    return MISSU(
        1,
        n_stages=2,
        features_per_stage=[8, 16],
        conv_op=nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * 2,
        strides=[[1, 1, 1], [2, 2, 2]],
        num_classes=2,
        n_conv_per_stage=[1, 1],
        n_conv_per_stage_decoder=[1],
        transformer={"embedding_dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16, "dropout": 0.0},
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
    )


def _ram() -> str:
    memory = physical_memory()
    return "unknown" if memory is None else f"{memory / _GIB:.0f} GiB"

"""The facts about an arm's training and about the page: plans, hyper-parameters, versions."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.fold import Fold
from missu_nnunet.nnunet.folders import Model, model_folder
from missu_nnunet.nnunet.model import PLANS_FILE, find_description
from missu_nnunet.nnunet.plans import find_configuration
from missu_nnunet.report.training_curves import TrainingRun
from missu_nnunet.text import counted, duration

_PACKAGES = (
    "missu-nnunet",
    "nnunetv2",
    "dynamic-network-architectures",
    "torch",
    "numpy",
    "scipy",
    "SimpleITK",
    "plotly",
)


def arm_facts(folder: Path, runs: list[TrainingRun]) -> dict[str, str]:
    """Collect the facts about an arm, name → value, in the order of the page; unknown ones are left out.

    Args:
        folder: folder of the arm.
        runs: trainings of its folds.
    """
    model = model_folder(folder.resolve())
    facts = {"folder": str(folder)}
    if names := Model.of(model):
        facts |= asdict(names)
    if plans_file := find_description(PLANS_FILE, folder):
        facts |= _plan_facts(plans_file, facts.get("configuration", ""))
    if runs:
        facts["folds"] = ", ".join(f"{run.fold} ({counted(run.epochs, 'epoch')})" for run in runs)
        ends = {run.fold: Fold.of(model, run.fold).early_end() for run in runs}
        if any(ends.values()):
            facts["ended early"] = "; ".join(f"fold {fold} after {end}" for fold, end in ends.items() if end)
    checkpoint = next((run.checkpoint for run in runs if run.checkpoint), {})
    if checkpoint:
        facts["parameters at inference"] = f"{checkpoint['parameters']:,}"
        missu = checkpoint["missu"]
        if isinstance(hyperparameters := missu.get("hyperparameters"), dict):
            if hyperparameters.get("transformer") is False:
                facts["Transformer"] = "none, the trainer leaves out the plan's"
            facts["MISSU's version"] = str(missu.get("version"))
            facts["MISSU's settings"] = ", ".join(f"{name} {value}" for name, value in hyperparameters.items())
    debug = next((found for run in runs if (found := Fold.of(model, run.fold).debug())), {})
    for key, name in (("torch_version", "torch"), ("device", "device"), ("gpu_name", "GPU")):
        if key in debug:
            facts[f"trained with {name}" if name == "torch" else name] = str(debug[key])
    seconds = [duration for run in runs for duration in run.epoch_seconds]
    if seconds:
        facts["time per epoch"] = f"{sorted(seconds)[len(seconds) // 2]:.1f} s (median)"
        facts["training time"] = f"{duration(sum(seconds))} over all folds"
    return facts


def dataset_name(folder: Path) -> str | None:
    """Return the name of an arm's dataset, which its plans or its place give; None where neither does."""
    model = model_folder(folder.resolve())
    plans = _read_json(model / PLANS_FILE)
    name = plans.get("dataset_name") or (model.parent.name if model.parent.name.startswith("Dataset") else None)
    return name if isinstance(name, str) else None


def versions() -> dict[str, str]:
    """List the versions of the software that made the page, by its name."""
    found = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path
            found[package] = "not installed"
    return found


def _plan_facts(plans_file: Path, configuration: str) -> dict[str, str]:
    """What the configuration of a plan says; nothing where the plan cannot be read."""
    plans = PlansManager(_read_json(plans_file))
    try:
        found = find_configuration(plans, configuration, plans_file).configuration
    except InputError:
        return {}
    facts = {}
    for key, name in (("patch_size", "patch"), ("batch_size", "batch size"), ("spacing", "spacing (mm)")):
        if key in found:
            value = found[key]
            facts[name] = " × ".join(f"{size:g}" for size in value) if isinstance(value, list) else str(value)
    architecture = found.get("architecture") or {}
    kwargs = architecture.get("arch_kwargs", {})
    if "network_class_name" in architecture:
        facts["network"] = str(architecture["network_class_name"]).rsplit(".", 1)[-1]
    for key, name in (
        ("n_stages", "stages"),
        ("features_per_stage", "channels"),
        ("transformer", "Transformer"),
        ("stages_below_transformer", "stages below the Transformer"),
    ):
        if kwargs.get(key) is not None:
            value = kwargs[key]
            facts[name] = ", ".join(
                f"{item} {value[item]}" if isinstance(value, dict) else str(item) for item in value
            ) if isinstance(value, list | dict) else str(value)  # fmt: skip
    if "normalization_schemes" in found:
        facts["normalisation"] = ", ".join(map(str, found["normalization_schemes"]))
    return facts


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, "")
    except InputError:
        return {}

"""What nnU-Net's planners and MISSU's plan for the usual datasets: parameters and operations of each network.

    python benchmarks/plans.py

Prints a table in Markdown; takes a minute on a CPU, where no network is allocated. Plans come from the stored
fingerprints of ``benchmarks/fingerprints``, which are synthetic: one case with the dataset's median spacing and shape,
its channels, labels and number of cases.
"""

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FINGERPRINTS = Path(__file__).parent / "fingerprints"
PLANNERS = ("ExperimentPlanner", "MISSUPlanner", "nnUNetPlannerResEncL", "MISSUPlannerL")
"""nnU-Net's planner before ours of the same memory target."""


@dataclass(frozen=True)
class PlannedNetwork:
    """One configuration's network.

    Attributes:
        patch_size: in voxels.
        batch_size: patches per training step.
        arch_kwargs: the network's arguments.
        parameters: at inference.
        macs: multiply-accumulate operations of a forward pass of one patch.
    """

    patch_size: list[int]
    batch_size: int
    arch_kwargs: dict[str, Any]
    parameters: int
    macs: int


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as root:
        os.environ.update({f"nnUNet_{name}": f"{root}/{name}" for name in ("raw", "preprocessed", "results")})
        os.environ["nnUNet_n_proc_DA"] = "1"  # which nnU-Net's planners take for the number of torch's threads
        print_table()


def print_table() -> None:
    """One row per dataset and configuration, one column per planner."""
    print(f"| dataset | {' | '.join(PLANNERS)} |\n|---|{'---|' * len(PLANNERS)}")
    for file in sorted(FINGERPRINTS.glob("*.json")):
        stored = json.loads(file.read_text())
        planned = {planner: plan(stored, planner) for planner in PLANNERS}
        for configuration in stored["configurations"]:
            cells = [describe(planned[planner][configuration]) for planner in PLANNERS]
            print(f"| {stored['dataset']['name']} {configuration} | {' | '.join(cells)} |", flush=True)


def describe(network: PlannedNetwork) -> str:
    """The network in a cell of the table."""
    words = [
        f"{network.parameters / 1e6:.1f} M",
        f"{np.format_float_positional(network.macs / 1e9, 3, fractional=False, trim='-')} GMAC",
        f"{network.batch_size} × {'×'.join(map(str, network.patch_size))}",
    ]
    if transformer := network.arch_kwargs.get("transformer"):
        below = network.arch_kwargs["stages_below_transformer"]
        strides = np.array(network.arch_kwargs["strides"])
        reduction = strides[: len(strides) - below].prod(axis=0)
        tokens = np.ceil(network.patch_size / reduction).prod(dtype=int)
        words.append(f"{tokens} tokens of {transformer['embedding_dim']}, {below} of {len(strides)} stages below")
    return "; ".join(words)


def plan(stored: dict[str, Any], planner: str) -> dict[str, PlannedNetwork]:
    """The networks that a planner plans for a stored fingerprint, by configuration."""
    with dataset_of(stored) as name, contextlib.redirect_stdout(io.StringIO()):
        # Where nnU-Net's folders are is read when it is imported.
        import torch
        from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
        from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

        folder = Path(default_experiment_planner.__file__).parents[1]
        found = recursive_find_python_class(str(folder), planner, "nnunetv2.experiment_planning")
        assert found is not None
        planning = found(name)
        planning.lowres_creation_threshold = 0  # a low resolution is not asked for
        with torch.device("meta"):  # the planners of nnU-Net build the networks
            configurations = planning.plan_experiment()["configurations"]
        channels = len(stored["dataset"]["channel_names"])
        classes = len(stored["dataset"]["labels"])
        return {
            configuration: network_of(configurations[configuration], channels, classes)
            for configuration in stored["configurations"]
        }


def network_of(configuration: dict[str, Any], channels: int, classes: int) -> PlannedNetwork:
    """Size the network of a planned configuration."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    from missu_nnunet.network_costs import inference_size

    architecture = configuration["architecture"]
    patch_size = [int(size) for size in configuration["patch_size"]]
    with torch.device("meta"):
        network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            classes,
            allow_init=False,
        )
    parameters, macs = inference_size(lambda: network, channels, patch_size)
    return PlannedNetwork(patch_size, configuration["batch_size"], architecture["arch_kwargs"], parameters, macs)


@contextlib.contextmanager
def dataset_of(stored: dict[str, Any]) -> Iterator[str]:
    """Name of a dataset with the stored fingerprint and no images, where nnU-Net looks for it meanwhile."""
    name = "Dataset999_Fingerprint"
    places = [Path(os.environ[folder]) / name for folder in ("nnUNet_raw", "nnUNet_preprocessed")]
    content = stored["dataset"] | {
        # Nothing is read: nnU-Net would look at an image to choose its reader.
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {"case": {"images": ["none"], "label": "none"}},
    }
    for place in places:
        place.mkdir(parents=True)
        (place / "dataset.json").write_text(json.dumps(content))
        (place / "dataset_fingerprint.json").write_text(json.dumps(stored["fingerprint"]))
    try:
        yield name
    finally:
        for place in places:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()

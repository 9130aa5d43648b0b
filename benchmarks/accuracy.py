"""What each part of MISSU contributes: arms of equal budget through nnU-Net's own pipeline, compared case by case.

    python benchmarks/accuracy.py FOLDER --task .../Task04_Hippocampus

converts and plans the task in FOLDER, trains every arm, and prints tables in Markdown. Run k trains fold k with
seed k; all arms share plan, batches per epoch, augmentation and validation cases. Finished trainings are kept and
broken ones continued, so the command can be stopped and given again; ``--runs 0`` prints the tables of what there is.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from missu_nnunet.evaluation.comparison import paired_statistics
from missu_nnunet.evaluation.protocols import PROTOCOLS
from missu_nnunet.evaluation.results import gather_results

ARMS = {
    "nnUNetTrainer": "nnU-Net as it is",
    "nnUNetTrainerAdamW": "nnU-Net with MISSU's optimiser and schedule",
    "MISSUTrainer": "MISSU",
    "MISSUTrainerNoDistillation": "no teachers, no auxiliary heads",
    "MISSUTrainerNoTransformer": "bottleneck as the encoder made it",
    "MISSUTrainerNoFusion": "the raw skip teaches",
    "MISSUTrainerAuxiliaryOnly": "auxiliary heads, weight of the distillation 0",
    "nnUNet_Primus_S_Trainer": "Primus-S",
}
UNET_PLANS, MISSU_PLANS = "nnUNetPlansCPU", "nnUNetMISSUPlansCPU"
CONFIGURATION = "3d_fullres"
METRICS = ("dice", "hd95")


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help="labelled dataset in Decathlon format, TaskNN_Name")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--runs", type=int, default=3, help="trainings per arm, each of its own fold and seed")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=50, help="per epoch")
    options = parser.parse_args()
    os.environ |= environment(options.folder)
    number, name = options.task.resolve().name.removeprefix("Task").split("_", 1)
    dataset = f"Dataset{int(number):03d}_{name}"
    if options.runs:
        prepare(options.task, options.folder, dataset)
    length = f"_{options.epochs}epochs_{options.iterations}iters_noTTA"
    for run in range(options.runs):
        for arm in options.arms:
            train(options.folder, dataset, arm + length, run)
    report(options.folder, dataset, options.arms, length)


def environment(folder: Path) -> dict[str, str]:
    """nnU-Net's variables: everything below ``folder``, augmentation in the main process."""
    folders = {
        f"nnUNet_{part}": str((folder / f"nnUNet_{part}").resolve()) for part in ("raw", "preprocessed", "results")
    }
    return folders | {
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "nnUNet_extTrainer": str(Path(__file__).resolve().parent / "trainers"),
    }


def prepare(task: Path, folder: Path, dataset: str) -> None:
    """Convert the task, plan with ``MISSUPlannerCPU``, preprocess, and write the plan of the other networks.

    That is MISSU's with the network of nnU-Net's default planner: patch, batch, stages and widths are the same.
    """
    unet_plans = folder / "nnUNet_preprocessed" / dataset / f"{UNET_PLANS}.json"
    if unet_plans.exists():
        return
    for name in ("raw", "preprocessed", "results"):
        (folder / f"nnUNet_{name}").mkdir(parents=True, exist_ok=True)
    command("nnUNetv2_convert_MSD_dataset", "-i", task, "-np", 1)
    plan = ("-d", dataset[7:10], "-pl", "MISSUPlannerCPU", "-c", CONFIGURATION, "-npfp", 1, "-np", 1)
    command("nnUNetv2_plan_and_preprocess", *plan)
    plans = json.loads(unet_plans.with_name(f"{MISSU_PLANS}.json").read_text())
    architecture = plans["configurations"][CONFIGURATION]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    kwargs = architecture["arch_kwargs"]
    del kwargs["transformer"]
    kwargs["n_conv_per_stage"] = [2] * kwargs["n_stages"]
    kwargs["n_conv_per_stage_decoder"] = [2] * (kwargs["n_stages"] - 1)
    unet_plans.write_text(json.dumps(plans | {"plans_name": UNET_PLANS}, indent=2) + "\n")


def train(folder: Path, dataset: str, trainer: str, run: int) -> None:
    """Train fold ``run`` with seed ``run`` and validate it, unless that is done; go on where it was broken off."""
    fold = model_folder(folder, dataset, trainer) / f"fold_{run}"
    if (fold / "validation" / "summary.json").exists():
        return
    resume = ("--c",) if any(fold.glob("checkpoint_*.pth")) else ()
    os.environ["MISSU_SEED"] = str(run)
    plans = plans_of(trainer)
    command("nnUNetv2_train", dataset, CONFIGURATION, run, "-tr", trainer, "-p", plans, "-device", "cpu", *resume)


def model_folder(folder: Path, dataset: str, trainer: str) -> Path:
    """Where nnU-Net keeps the folds of a trainer."""
    return folder / "nnUNet_results" / dataset / f"{trainer}__{plans_of(trainer)}__{CONFIGURATION}"


def plans_of(trainer: str) -> str:
    """Plans that a trainer follows: every network as its own planner plans it."""
    return MISSU_PLANS if trainer.startswith("MISSU") else UNET_PLANS


def command(name: str, *arguments: object) -> None:
    """Run a command of this environment; what it prints goes to a log, shown if the command fails."""
    line = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    print("+", name, *arguments, file=sys.stderr, flush=True)
    result = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout}\n{name} failed with exit code {result.returncode}")


def scores(folder: Path, dataset: str, arms: list[str], length: str) -> dict[str, dict[str, list[np.ndarray]]]:
    """metric → arm → for each run that all of the arms have finished, the mean of the classes of each case."""
    collected: dict[str, dict[str, list[np.ndarray]]] = {metric: {arm: [] for arm in arms} for metric in METRICS}
    for run in range(5):
        folds = [model_folder(folder, dataset, arm + length) / f"fold_{run}" for arm in arms]
        if not all((fold / "validation" / "summary.json").exists() for fold in folds):
            continue
        arrays = gather_results(folds, PROTOCOLS["nnunet"], metrics=METRICS).arrays()
        for metric in METRICS:
            for arm, values in zip(arms, arrays[metric].values(), strict=True):
                collected[metric][arm].append(np.nanmean(values, axis=1))
    return collected


def report(folder: Path, dataset: str, arms: list[str], length: str) -> None:
    """Print what every arm scores, and MISSU's difference from each."""
    table = scores(folder, dataset, arms, length)
    runs = len(table["dice"][arms[0]])
    if not runs:
        sys.exit(f"{folder}: no run k whose fold k is trained and validated in all arms yet")
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "nnunetv2", "missu_nnunet"))
    cases = sum(map(len, table["dice"][arms[0]]))
    print(f"{dataset}, {length.strip('_')}; {runs} runs (fold and seed 0 to {runs - 1}), {cases} validation cases")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}\n")
    print("| arm | Dice of each run | mean Dice | mean HD95 [mm] | |\n|---|---|---|---|---|")
    for arm in arms:
        dice, hd95 = table["dice"][arm], table["hd95"][arm]
        each = ", ".join(f"{run.mean():.4f}" for run in dice)
        means = f"{np.mean(np.concatenate(dice)):.4f} | {np.nanmean(np.concatenate(hd95)):.2f}"
        print(f"| `{arm}` | {each} | {means} | {ARMS[arm]} |")
    print("\n| MISSUTrainer − | Dice | 95 % interval | of each run | HD95 [mm] | 95 % interval |")
    print("|---|---|---|---|---|---|")
    for arm in (arm for arm in arms if arm != "MISSUTrainer" and "MISSUTrainer" in arms):
        print(f"| `{arm}` | {difference(table['dice'], arm, 4)} | {difference(table['hd95'], arm, 2)} |")


def difference(table: dict[str, list[np.ndarray]], arm: str, digits: int) -> str:
    """Cells of MISSU's difference from an arm: its mean over the cases, its interval; with Dice each run's as well."""
    pairs = list(zip(table["MISSUTrainer"], table[arm], strict=True))
    first, second = (np.concatenate(column) for column in zip(*pairs, strict=True))
    both = ~np.isnan(first + second)  # the distance to an empty segmentation is undefined
    statistics = paired_statistics(first[both], second[both], larger_is_better=digits == 4)
    interval = f"{statistics.low:+.{digits}f} to {statistics.high:+.{digits}f}"
    cells = [f"{statistics.difference:+.{digits}f}", interval]
    if digits == 4:
        cells.append(", ".join(f"{np.mean(mine - others):+.4f}" for mine, others in pairs))
    return " | ".join(cells)


if __name__ == "__main__":
    main()

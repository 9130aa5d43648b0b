"""What each part of MISSU contributes: arms of equal budget through nnU-Net's own pipeline, compared case by case.

    python benchmarks/accuracy.py FOLDER --task .../Task04_Hippocampus --scores benchmarks/scores/hippocampus.csv

converts and plans the task in FOLDER, trains every arm, and prints tables in Markdown. Run k trains fold k with
seed k; all arms share plan, batches per epoch, augmentation and validation cases. Every finished training's scores go
into the file of scores, and what stands there is not trained again, on whatever machine; broken trainings are
continued. So the command can be stopped and given again; ``--runs 0`` prints the tables of what there is.
"""

import argparse
import copy
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import MISSU_KEYS
from missu_nnunet.evaluation.comparison import paired_statistics
from missu_nnunet.evaluation.protocols import PROTOCOLS
from missu_nnunet.evaluation.results import gather_results
from missu_nnunet.files import read_table, write_csv
from missu_nnunet.hyperparameters import SEED_VARIABLE
from missu_nnunet.nnunet.command import LoggedCommand, locked_log

ARMS = {
    "nnUNetTrainer": "nnU-Net as it is",
    "nnUNetTrainerAdamW": "nnU-Net with MISSU's optimiser and schedule",
    "MISSUTrainer": "MISSU",
    "MISSUTrainerNoDistillation": "no teachers, no auxiliary heads",
    "MISSUTrainerNoTransformer": "without its Transformer",
    "MISSUTrainerNoFusion": "the raw skip teaches",
    "MISSUTrainerFusion": "fusion blocks teach",
    "nnUNet_PrimusV3S_Trainer": "Primus V3-S, the one its authors recommend",
}
UNET_PLANS, MISSU_PLANS = "nnUNetPlansCPU", "nnUNetMISSUPlansCPU"
METRICS = ("dice", "hd95")
_TOPOLOGY = (
    "n_stages",
    "features_per_stage",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_conv_per_stage_decoder",
)

CaseScores = dict[str, tuple[float, ...]]
"""case → its mean over the classes in each of ``METRICS``"""

Scores = dict[tuple[str, int], CaseScores]
"""(trainer, run) → its cases' scores"""


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help="labelled dataset in Decathlon format, TaskNN_Name")
    parser.add_argument("--scores", type=Path, help="file of scores; default: FOLDER/scores.csv")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--runs", type=int, default=3, help="trainings per arm, each of its own fold and seed")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=50, help="per epoch")
    options = parser.parse_args()
    study = Study(options.folder, options.task, options.configuration)
    scores_file = options.scores or options.folder / "scores.csv"
    scores = read_scores(scores_file)
    length = f"_{options.epochs}epochs_{options.iterations}iters_noTTA"
    for run in range(options.runs):
        for arm in options.arms:
            if (arm + length, run) not in scores:
                study.prepare()
                scores[arm + length, run] = score(study.train(arm + length, run, seed=run))
                write_scores(scores, scores_file)
    report(study.dataset, scores, options.arms, length)


def read_scores(file: Path) -> Scores:
    """What ``write_scores`` wrote; empty if there is no file."""
    scores: Scores = {}
    for row in read_table(file, "remove it") if file.exists() else []:
        cases = scores.setdefault((row["trainer"], int(row["run"])), {})
        cases[row["case"]] = tuple(float(row[metric]) for metric in METRICS)
    return scores


def write_scores(scores: Scores, file: Path) -> None:
    """Write one row per training and case."""
    rows = [
        {"trainer": trainer, "run": run, "case": case, **dict(zip(METRICS, (f"{v:.5f}" for v in values), strict=True))}
        for (trainer, run), cases in sorted(scores.items())
        for case, values in sorted(cases.items())
    ]
    write_csv(rows, file)


class Study:
    """A task in nnU-Net's three folders.

    Args:
        folder: holds them.
        task: in Decathlon format, ``TaskNN_Name``.
        configuration: of the plans.
    """

    def __init__(self, folder: Path, task: Path, configuration: str) -> None:
        number, name = task.resolve().name.removeprefix("Task").split("_", 1)
        self.dataset = f"Dataset{int(number):03d}_{name}"
        self.task = task
        self.configuration = configuration
        self.raw, self.preprocessed, self.results = (
            folder.resolve() / f"nnUNet_{part}" for part in ("raw", "preprocessed", "results")
        )
        os.environ |= {path.name: str(path) for path in (self.raw, self.preprocessed, self.results)} | {
            "nnUNet_n_proc_DA": "0",  # augmentation in the main process
            "nnUNet_def_n_proc": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "nnUNet_extTrainer": str(Path(__file__).resolve().parent / "trainers"),
        }

    def prepare(self) -> None:
        """Convert, plan with ``MISSUPlannerCPU``, preprocess, and write the plan of the other networks; once.

        That has MISSU's patch, batch and first width, and from there on what nnU-Net plans for this patch.
        """
        unet_plans = self.preprocessed / self.dataset / f"{UNET_PLANS}.json"
        if unet_plans.exists():
            return
        for path in (self.raw, self.preprocessed, self.results):
            path.mkdir(parents=True, exist_ok=True)
        command("nnUNetv2_convert_MSD_dataset", "-i", self.task, "-np", 1)
        plan = ("-d", self.dataset[7:10], "-pl", "MISSUPlannerCPU", "-c", self.configuration, "-npfp", 1, "-np", 1)
        command("nnUNetv2_plan_and_preprocess", *plan)
        plans = json.loads(unet_plans.with_name(f"{MISSU_PLANS}.json").read_text())
        unet_plans.write_text(json.dumps(with_unet(plans, self.configuration), indent=2) + "\n")

    def train(self, trainer: str, fold: int, seed: int, plans: str | None = None) -> Path:
        """Train the fold with the seed, from its checkpoint if there is one, validate it, and return its folder.

        Without a name of plans each network is trained as its own planner plans it.
        """
        plans = plans or (MISSU_PLANS if trainer.startswith("MISSU") else UNET_PLANS)
        folder = self.results / self.dataset / f"{trainer}__{plans}__{self.configuration}" / f"fold_{fold}"
        if not (folder / "validation" / "summary.json").exists():
            resume = ("--c",) if any(folder.glob("checkpoint_*.pth")) else ()
            os.environ[SEED_VARIABLE] = str(seed)
            what = (self.dataset, self.configuration, fold, "-tr", trainer, "-p", plans)
            command("nnUNetv2_train", *what, "-device", "cpu", *resume)
        return folder


def score(folder: Path, references: Path | None = None) -> CaseScores:
    """Score a fold's validation, or a folder of segmentations beside it with its references."""
    results = gather_results([folder], PROTOCOLS["nnunet"], references=references, metrics=METRICS)
    columns = [np.nanmean(*results.mean_scores[metric].values(), axis=1) for metric in METRICS]
    return dict(zip(results.cases, zip(*(column.tolist() for column in columns), strict=True), strict=True))


def with_unet(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """MISSU's plans, changed into what nnU-Net plans for the same patch, batch and first width."""
    plans = copy.deepcopy(plans) | {"plans_name": UNET_PLANS}
    plan = plans["configurations"][configuration]
    architecture = plan["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    kwargs = architecture["arch_kwargs"]
    unet, _ = unet_plan(plan["spacing"], plan["patch_size"], kwargs["features_per_stage"][0])
    for key in (*MISSU_KEYS, "n_blocks_per_stage"):
        kwargs.pop(key, None)
    kwargs |= {key: unet[key] for key in _TOPOLOGY}
    return plans


def command(name: str, *arguments: object) -> None:
    """Run one of nnU-Net's commands; its output goes to ``nnUNet_results/commands.log``.

    Raises:
        SystemExit: if it fails.
    """
    log = Path(os.environ["nnUNet_results"]) / "commands.log"
    print("+", name, *arguments, file=sys.stderr, flush=True)
    with locked_log(log) as output:
        code = LoggedCommand([name, *map(str, arguments)], output, {}).wait()
    if code:
        sys.exit(f"{name} failed with exit code {code}, see {log}")


def report(dataset: str, scores: Scores, arms: list[str], length: str) -> None:
    """Print what every arm scores, and MISSU's difference from each over the runs that both have."""
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "nnunetv2", "missu_nnunet"))
    print(f"{dataset}, {length.strip('_')}; run k is fold k with seed k")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}\n")
    print("| arm | Dice of each run | mean Dice | mean HD95 [mm] | |\n|---|---|---|---|---|")
    scored = {trainer.removesuffix(length) for trainer, _ in scores if trainer.endswith(length)}
    runs = {
        arm: {run: table(cases) for (trainer, run), cases in scores.items() if trainer == arm + length}
        for arm in [*arms, *sorted(scored - ARMS.keys())]  # also of trainers that are no more
    }
    for arm, arrays in runs.items():
        if arrays:
            each = ", ".join(f"{array[:, 0].mean():.4f}" for array in arrays.values())
            dice, hd95 = np.nanmean(np.concatenate(list(arrays.values())), axis=0)
            print(f"| `{arm}` | {each} | {dice:.4f} | {hd95:.2f} | {ARMS.get(arm, 'an arm that is gone')} |")
    print("\n| MISSUTrainer − | runs | Dice | 95 % interval | of each run | HD95 [mm] | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    ours = runs.pop("MISSUTrainer", {})
    for arm, theirs in runs.items():
        pairs = [(ours[run], theirs[run]) for run in ours if run in theirs]
        if pairs:
            each = ", ".join(f"{np.mean(mine[:, 0] - other[:, 0]):+.4f}" for mine, other in pairs)
            dice, hd95 = difference(pairs, 0, 4), difference(pairs, 1, 2)
            print(f"| `{arm}` | {len(pairs)} | {dice} | {each} | {hd95} |")


def table(cases: CaseScores) -> np.ndarray:
    """(cases, metrics)"""
    return np.array([cases[case] for case in sorted(cases)])


def difference(pairs: list[tuple[np.ndarray, np.ndarray]], metric: int, digits: int) -> str:
    """Two cells: the mean difference over the cases of all runs, and its interval."""
    first, second = (np.concatenate([pair[side][:, metric] for pair in pairs]) for side in (0, 1))
    both = ~np.isnan(first + second)  # the distance to an empty segmentation is undefined
    statistics = paired_statistics(first[None, both], second[None, both], larger_is_better=METRICS[metric] == "dice")
    interval = f"{statistics.low:+.{digits}f} to {statistics.high:+.{digits}f}"
    return f"{statistics.difference:+.{digits}f} | {interval}"


if __name__ == "__main__":
    main()

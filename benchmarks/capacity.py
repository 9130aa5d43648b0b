"""What width and depth are worth: MISSU's Transformer at several resolutions and widths, and nnU-Net's U-Net.

    python benchmarks/capacity.py FOLDER --task .../Task22_HeartScribbles --scores benchmarks/scores/capacity/heart.csv

All arms have 32 channels in the first stage, and all masks of the task; patch, spacing and folds are those of
``missing_labels.py``, in whose FOLDER they may be trained. Run k is fold k with seed k. Choices are made on run 0, what
is reported are the others. Finished scores go into the file of scores and are not trained again; ``--runs`` without a
number prints the tables of what is there.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from accuracy import MISSU_PLANS, Scores, read_scores, table, with_unet, write_scores
from missing_labels import MissingLabels, difference_cells, mean_cells

from missu_nnunet.architecture.configuration import (
    FULL_WIDTH,
    PAPER_HEADS,
    PAPER_WIDTH,
    planned_arch_kwargs,
    transformer_kwargs,
)

UNET, PLANNED = "U-Net", "planned"
ARMS = {
    UNET: "nnU-Net's",
    PLANNED: "MISSU as its planners plan it",
    "eighth-192": "the planners' rule before: at 1/8 resolution, bottleneck and Transformer of 192 channels",
    "eighth-512": "the paper's width at its resolution, 1/8",
    "deepest-512": "the paper's width below all of nnU-Net's stages",
}


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help="folder of a task that missing_labels.py knows")
    parser.add_argument("--scores", type=Path, help="file of scores; default: FOLDER/scores.csv")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 2, 3], help="folds, each trained with its own seed")
    parser.add_argument("--epochs", type=int, default=6, help="of 250 iterations")
    options = parser.parse_args()
    study = Capacity(options.folder, options.task, labelled=None, slices=None)
    scores_file = options.scores or options.folder / "scores.csv"
    scores = read_scores(scores_file)
    for run in options.runs:
        for arm in options.arms:
            if (arm, run) not in scores:
                scores[arm, run] = study.train_arm(arm, run, options.epochs)
                write_scores(scores, scores_file)
    report(scores)


class Capacity(MissingLabels):
    """The task with all masks, and a plan for every arm."""

    def train_arm(self, arm: str, run: int, epochs: int) -> dict[str, tuple[float, ...]]:
        """Scores of one training."""
        self.prepare_run(run, all_masks=True)
        folder = self.preprocessed / self.dataset
        plans = plans_of(arm, json.loads((folder / f"{MISSU_PLANS}.json").read_text()), self.configuration)
        (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
        trainer = "nnUNetTrainerAdamW" if arm == UNET else "MISSUTrainerNoDistillation"
        return self.train(f"{trainer}_{epochs}epochs_250iters_noTTA", run, seed=run, plans=plans["plans_name"])


def plans_of(arm: str, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """MISSU's plans of narrow networks, changed into those of an arm."""
    plans = copy.deepcopy(plans)
    plan = plans["configurations"][configuration]
    plan["architecture"]["arch_kwargs"]["features_per_stage"][0] = FULL_WIDTH
    unet = with_unet(plans, configuration)
    of_unet = unet["configurations"][configuration]["architecture"]["arch_kwargs"]
    planned = planned_arch_kwargs(of_unet, plan["patch_size"])
    paper = transformer_kwargs(PAPER_WIDTH, head_channels=PAPER_WIDTH // PAPER_HEADS)
    widths = of_unet["features_per_stage"]
    kwargs = {
        UNET: of_unet,
        PLANNED: planned,
        "eighth-192": planned | stages(of_unet, [*widths[:3], 192]) | {"transformer": transformer_kwargs(192)},
        "eighth-512": planned | stages(of_unet, widths[:4]) | {"transformer": paper},
        "deepest-512": planned | stages(of_unet, widths) | {"transformer": paper},
    }[arm]
    chosen = unet if arm == UNET else plans
    chosen["configurations"][configuration]["architecture"]["arch_kwargs"] = kwargs
    return chosen | {"plans_name": f"nnUNetPlans_{arm}"}


def stages(of_unet: dict[str, Any], widths: list[int]) -> dict[str, Any]:
    """MISSU's arguments for the U-Net's first stages with these widths."""
    return {
        "n_stages": len(widths),
        "features_per_stage": widths,
        "kernel_sizes": of_unet["kernel_sizes"][: len(widths)],
        "strides": of_unet["strides"][: len(widths)],
        "n_blocks_per_stage": [1] * len(widths),
        "n_conv_per_stage_decoder": [1] * (len(widths) - 1),
    }


def report(scores: Scores) -> None:
    """Print what every arm scores, and how the planned network differs from the others, in single runs and in all."""
    print("| arm | | Dice and HD95 of each run | mean Dice | mean HD95 [mm] |\n|---|---|---|---|---|")
    runs = {arm: {run: table(cases) for (name, run), cases in sorted(scores.items()) if name == arm} for arm in ARMS}
    for arm, arrays in runs.items():
        if arrays:
            print(f"| {arm} | {ARMS[arm]} | {mean_cells(arrays)} |")
    print(f"\n| {PLANNED} − | runs | Dice | 95 % interval | HD95 [mm] | 95 % interval |\n|---|---|---|---|---|---|")
    planned = runs.pop(PLANNED)
    for arm, arrays in runs.items():
        for cells in difference_cells(planned, arrays):
            print(f"| {arm} | {cells} |")


if __name__ == "__main__":
    main()

"""What width and depth are worth: MISSU's Transformer at several resolutions and widths, and nnU-Net's U-Net.

    python benchmarks/capacity.py FOLDER --task .../Task22_HeartScribbles --scores .../capacity/heart.csv
    python benchmarks/capacity.py FOLDER --task .../Task22_HeartScribbles --channels 16 --labelled 3 --epochs 12 \\
        --scores .../capacity/heart_patients_3.csv

The first has nnU-Net's 32 channels in the first stage, and all masks of the task; the second half as many channels, and
the masks of three patients. No arm has a teacher. Patch, spacing and folds are those of ``missing_labels.py``, in whose
FOLDER they may be trained. Run k is fold k with seed k. Choices are made on run 0, what is reported are the others.
Finished scores go into the file of scores and are not trained again; ``--runs`` without a number prints the tables of
what is there.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from accuracy import MISSU_PLANS, Scores, read_scores, score, table, with_unet, write_scores
from missing_labels import MissingLabels, difference_cells, mean_cells

from missu_nnunet.architecture.configuration import NNUNET_WIDTH, planned_arch_kwargs, transformer_kwargs

UNET = "U-Net"
ARMS = {
    UNET: "nnU-Net's",
    "planned": "MISSU's planners': residual, all of nnU-Net's stages, a wide Transformer in 2D at 1/16",
    "deepest": "the same with the Transformer behind the deepest stage",
    "shallow": "the same as planned, without the stages below the Transformer",
    "planned-plain": "the same as planned, with nnU-Net's plain encoder",
    "no-transformer": "the same as planned, without the Transformer",
    "plain": "the same as shallow, with nnU-Net's plain encoder",
    "lean": "the same as shallow, with one convolution per decoder stage",
    "lean-finest": "the same as shallow, with one convolution in the decoder's finest stage",
    "lean-rest": "the same as shallow, with one convolution in every decoder stage but the finest",
    "eighth": "the same as shallow, with the Transformer at the paper's resolution, 1/8",
    "eighth-narrow": "as small plans once were: lean, at 1/8 and 1.5 times as wide as the stage above",
}


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help="folder of a task that missing_labels.py knows")
    parser.add_argument("--scores", type=Path, help="file of scores; default: FOLDER/scores.csv")
    parser.add_argument("--channels", type=int, default=NNUNET_WIDTH, help="of the first stage")
    parser.add_argument("--labelled", type=int, help="patients with full masks, others are left out; default: all")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 2, 3], help="folds, each trained with its own seed")
    parser.add_argument("--epochs", type=int, default=6, help="of 250 iterations")
    options = parser.parse_args()
    study = Capacity(options.folder, options.task, options.labelled, slices=None)
    scores_file = options.scores or options.folder / "scores.csv"
    scores = read_scores(scores_file)
    for run in options.runs:
        for arm in options.arms:
            if (arm, run) not in scores:
                scores[arm, run] = score(study.train_arm(arm, run, options.channels, options.epochs))
                write_scores(scores, scores_file)
    report(scores)


class Capacity(MissingLabels):
    """The task with all masks or those of some patients, and a plan for every arm."""

    def train_arm(self, arm: str, run: int, channels: int, epochs: int, watched: bool = False) -> Path:
        """Train once, watched by ``trainers/watched.py`` or not, and return the fold's folder."""
        all_masks = self.labelled is None
        self.prepare_run(run, all_masks)
        folder = self.preprocessed / self.dataset
        missu_plans = json.loads((folder / f"{MISSU_PLANS}.json").read_text())
        plans = plans_of(arm, missu_plans, self.configuration, channels)
        (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
        trainer = "nnUNetTrainerAdamW" if arm == UNET else "MISSUTrainerNoDistillation"
        name = f"{'Watched_' * watched}{trainer}_{epochs}epochs_250iters_noTTA"
        return self.train_run(name, run, all_masks, plans["plans_name"])


def plans_of(arm: str, plans: dict[str, Any], configuration: str, channels: int) -> dict[str, Any]:
    """MISSU's plans, changed into those of an arm with so many channels in the first stage."""
    plans = copy.deepcopy(plans)
    plan = plans["configurations"][configuration]
    plan["architecture"]["arch_kwargs"]["features_per_stage"][0] = channels
    unet = with_unet(plans, configuration)
    of_unet = unet["configurations"][configuration]["architecture"]["arch_kwargs"]
    planned = planned_arch_kwargs(of_unet, plan["patch_size"])
    widths = of_unet["features_per_stage"]
    narrow = widths[2] * 3 // 2
    stage = planned["n_stages"] - 1 - planned["stages_below_transformer"]
    shallow = with_stages(planned, of_unet, widths[: stage + 1], 2)
    # Before the Transformer stands a single convolution, as a single residual block does.
    convolutions = list(of_unet["n_conv_per_stage"])
    convolutions[stage] = 1
    planned_plain = planned | {"n_conv_per_stage": convolutions}
    plain = shallow | {"n_conv_per_stage": convolutions[: stage + 1]}
    del planned_plain["n_blocks_per_stage"], plain["n_blocks_per_stage"]
    kwargs = {
        UNET: of_unet,
        "planned": planned,
        "planned-plain": planned_plain,
        "no-transformer": planned | {"transformer": None},
        "deepest": planned | {"stages_below_transformer": 0},
        "shallow": shallow,
        "plain": plain,
        "lean": with_stages(planned, of_unet, widths[: stage + 1], 1),
        "lean-finest": shallow | {"n_conv_per_stage_decoder": [*[2] * (stage - 1), 1]},
        "lean-rest": shallow | {"n_conv_per_stage_decoder": [*[1] * (stage - 1), 2]},
        "eighth": with_stages(planned, of_unet, widths[:4], 2),
        "eighth-narrow": with_stages(planned, of_unet, [*widths[:3], narrow], 1)
        | {"transformer": transformer_kwargs(narrow, head_channels=32)},
    }[arm]
    chosen = unet if arm == UNET else plans
    chosen["configurations"][configuration]["architecture"]["arch_kwargs"] = kwargs
    return chosen | {"plans_name": f"nnUNetPlans{channels}_{arm}"}


def with_stages(
    planned: dict[str, Any], of_unet: dict[str, Any], widths: list[int], decoder_convolutions: int
) -> dict[str, Any]:
    """MISSU's planned arguments, with as many of the U-Net's stages as widths, the Transformer behind the last."""
    n_stages = len(widths)
    return planned | {
        "n_stages": n_stages,
        "stages_below_transformer": 0,
        "features_per_stage": widths,
        "kernel_sizes": of_unet["kernel_sizes"][:n_stages],
        "strides": of_unet["strides"][:n_stages],
        "n_blocks_per_stage": [1] * n_stages,
        "n_conv_per_stage_decoder": [decoder_convolutions] * (n_stages - 1),
    }


def report(scores: Scores) -> None:
    """Print what every arm scores, and how others differ from nnU-Net's and from MISSU without its Transformer.

    Differences are those of single runs, of all, and of all but run 0.
    """
    print("| arm | | Dice and HD95 of each run | mean Dice | mean HD95 [mm] |\n|---|---|---|---|---|")
    runs = {arm: {run: table(cases) for (name, run), cases in sorted(scores.items()) if name == arm} for arm in ARMS}
    for arm, arrays in runs.items():
        if arrays:
            print(f"| {arm} | {ARMS[arm]} | {mean_cells(arrays)} |")
    for reference in (UNET, "no-transformer"):
        theirs = runs.pop(reference)
        if not theirs:
            continue
        print(f"\n| − {reference} | runs | Dice | 95 % interval | HD95 [mm] | 95 % interval |")
        print("|---|---|---|---|---|---|")
        for arm, arrays in runs.items():
            not_chosen_on = {run: array for run, array in arrays.items() if run > 0}
            rows = difference_cells(arrays, theirs)
            if len(arrays.keys() & theirs.keys()) > len(not_chosen_on.keys() & theirs.keys()) > 1:
                rows += difference_cells(not_chosen_on, theirs)[-1:]
            for cells in rows:
                print(f"| {arm} | {cells} |")


if __name__ == "__main__":
    main()

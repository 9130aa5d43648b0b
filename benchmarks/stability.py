"""Does a network of full width train calmly to the end: loss, gradient, attention and weights, epoch by epoch.

    python benchmarks/stability.py FOLDER --task .../Task22_HeartScribbles --epochs 20 \\
        --scores .../stability/heart.csv --watched .../stability/heart_epochs.csv

trains arms of ``capacity.py`` on all masks, with its patch, folds and seeds, watched by ``trainers/watched.py``, and
prints what they score and what was seen. Finished trainings are not repeated, broken ones are continued; ``--arms``
without a name prints the tables of what is there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from accuracy import read_scores, score, write_scores
from capacity import ARMS, UNET, Capacity, report

from missu_nnunet.architecture.configuration import NNUNET_WIDTH
from missu_nnunet.files import read_table, write_csv

WATCHED = "watched: "
"""Begins the lines of ``trainers/watched.py``, which nnU-Net alone can import."""


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help="folder of a task that missing_labels.py knows")
    parser.add_argument("--scores", type=Path, required=True, help="file of scores")
    parser.add_argument("--watched", type=Path, required=True, help="file of what was seen in every epoch")
    parser.add_argument("--arms", nargs="*", default=["planned", UNET], choices=list(ARMS), metavar="ARM")
    parser.add_argument("--run", type=int, default=1, help="fold and seed")
    parser.add_argument("--epochs", type=int, default=20, help="of 250 iterations")
    options = parser.parse_args()
    study = Capacity(options.folder, options.task, labelled=None, slices=None)
    scores = read_scores(options.scores)
    epochs = read_epochs(options.watched)
    for arm in options.arms:
        if (arm, options.run) not in scores:
            fold = study.train_arm(arm, options.run, NNUNET_WIDTH, options.epochs, watched=True)
            scores[arm, options.run] = score(fold)
            logs = sorted(fold.glob("training_log_*.txt"))
            epochs += [{"arm": arm, "run": options.run} | epoch for epoch in watched_epochs(logs)]
            write_csv(epochs, options.watched)
            write_scores(scores, options.scores)
    report(scores)
    print_epochs(epochs)


def read_epochs(file: Path) -> list[dict[str, Any]]:
    """What was written before; empty if there is no file."""
    return list(read_table(file, "remove it")) if file.exists() else []


def watched_epochs(logs: list[Path]) -> list[dict[str, Any]]:
    """What was seen in every epoch; of one that was broken off and trained again, the last time."""
    lines = [line for log in logs for line in log.read_text().splitlines() if WATCHED in line]
    epochs = [json.loads(line.split(WATCHED)[1]) for line in lines]
    last = {int(epoch["epoch"]): epoch for epoch in epochs}
    return [last[epoch] | {"epoch": epoch} for epoch in sorted(last)]


def print_epochs(epochs: list[dict[str, Any]]) -> None:
    """One row per training and epoch."""
    if not epochs:
        return
    names = [name.replace("_", " ") for name in epochs[0]]
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for epoch in epochs:
        arm, run, number, *values = epoch.values()
        print(f"| {arm} | {run} | {number} | {' | '.join(f'{float(value):.4g}' for value in values)} |")


if __name__ == "__main__":
    main()

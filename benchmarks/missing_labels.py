"""What MISSU learns where labels are missing, scored on the full masks of patients that no arm has seen.

    python benchmarks/missing_labels.py FOLDER --task .../Task22_HeartScribbles --scores benchmarks/scores/scribbles.csv
    python benchmarks/missing_labels.py FOLDER --task .../Task22_HeartScribbles --labelled 3 --scores .../patients_3.csv

The first asks what scribbles teach (the task's ``labelsTr``, where most voxels are *ignore*), the second what three
patients with full masks (``masksTr``) teach beside others without any label; each question has a FOLDER of its own. Run
k trains with seed k and without the patients of fold k, on whom it is scored; the first seven patients are in no fold.
Choices are made on run 0, what is reported are the others. The teacher's arm is compared with both networks without
one, on the same labels and on all masks: the gap between those is what there is to gain. Where there is no teacher,
cases without a label are left out. Finished scores go into the file of scores and are not trained again; ``--runs``
without a number prints the tables of what is there.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from accuracy import (
    MISSU_PLANS,
    UNET_PLANS,
    Scores,
    Study,
    command,
    difference,
    read_scores,
    table,
    with_unet,
    write_scores,
)

ARMS = {
    "nnUNetTrainerAdamW": "nnU-Net with MISSU's optimiser",
    "MISSUTrainerNoDistillation": "MISSU without its teacher",
    "MISSUTrainer": "MISSU",
    "nnUNetTrainerAdamW, all masks": "nnU-Net with MISSU's optimiser",
    "MISSUTrainerNoDistillation, all masks": "MISSU without its teacher",
}
CONFIGURATION, SPACING, PATCH_SIZE, BATCH_SIZE = "2d", (10, 2.5, 2.5), [160, 128], 2
IN_NO_FOLD, FOLDS = 7, 5
IGNORE = 4


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help="Task22_HeartScribbles, with masksTr")
    parser.add_argument("--labelled", type=int, help="patients with full masks; default: scribbles on all")
    parser.add_argument("--scores", type=Path, help="file of scores; default: FOLDER/scores.csv")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 2, 3], help="folds, each trained with its own seed")
    parser.add_argument("--epochs", type=int, default=12, help="of 250 iterations")
    options = parser.parse_args()
    study = MissingLabels(options.folder, options.task, options.labelled)
    scores_file = options.scores or options.folder / "scores.csv"
    scores = read_scores(scores_file)
    for run in options.runs:
        for arm in options.arms:
            if (arm, run) not in scores:
                trainer, all_masks = arm.removesuffix(", all masks"), arm.endswith(", all masks")
                scores[arm, run] = study.run(f"{trainer}_{options.epochs}epochs_250iters_noTTA", run, all_masks)
                write_scores(scores, scores_file)
    report(scores)


class MissingLabels(Study):
    """Copies of the task in nnU-Net's three folders, one with all masks and one for each run.

    Args:
        folder: holds them.
        task: in Decathlon format with scribbles in ``labelsTr`` and full masks in ``masksTr``.
        labelled: so many patients, the first ones, have full masks and the others no label; None for scribbles.
    """

    def __init__(self, folder: Path, task: Path, labelled: int | None) -> None:
        super().__init__(folder, task, CONFIGURATION)
        self.labelled = labelled
        self.number, self.name = int(self.dataset[7:10]), self.dataset[11:]
        self.cases = sorted(file.name.removesuffix(".nii.gz") for file in (task / "labelsTr").glob("*.nii.gz"))
        self.patients = sorted({patient_of(case) for case in self.cases})

    def run(self, trainer: str, run: int, all_masks: bool) -> dict[str, tuple[float, ...]]:
        """Scores of one training, on whose dataset everything is ready afterwards."""
        number = self.number if all_masks else 10 * self.number + run
        self.dataset = f"Dataset{number:03d}_{self.name}"
        if not (self.preprocessed / self.dataset / f"{UNET_PLANS}.json").exists():
            self._write_raw(run, all_masks)
            self._plan()
        # A U-Net has no way to leave out the cases without a label, so that its folds do.
        leaves_out = self.labelled is not None and not all_masks and not trainer.startswith("MISSU")
        return self.train(trainer, run + FOLDS * leaves_out, seed=run)

    def _validation(self, fold: int) -> list[str]:
        patients = self.patients[IN_NO_FOLD:][fold::FOLDS]
        return [case for case in self.cases if patient_of(case) in patients]

    def _write_raw(self, run: int, all_masks: bool) -> None:
        folder = self.raw / self.dataset
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        validation = self._validation(run)
        for case in self.cases:
            image = folder / "imagesTr" / f"{case}_0000.nii.gz"
            image.unlink(missing_ok=True)
            image.symlink_to((self.task / "imagesTr" / f"{case}.nii.gz").resolve())
            full = all_masks or case in validation or self._is_labelled(case)
            source = "masksTr" if full or self.labelled is not None else "labelsTr"
            label = sitk.ReadImage(str(self.task / source / f"{case}.nii.gz"))
            if not full and self.labelled is not None:
                label = label * 0 + IGNORE
            sitk.WriteImage(label, str(folder / "labelsTr" / f"{case}.nii.gz"))
        task = json.loads((self.task / "dataset.json").read_text())
        dataset = {
            "channel_names": task["modality"],
            "labels": {name: int(label) for label, name in task["labels"].items()},
            "numTraining": len(self.cases),
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(dataset))

    def _is_labelled(self, case: str) -> bool:
        return self.labelled is not None and patient_of(case) in self.patients[: self.labelled]

    def _plan(self) -> None:
        what = ("-d", self.dataset[7:10])
        command("nnUNetv2_extract_fingerprint", *what, "-np", 1)
        plan = ("-pl", "MISSUPlannerCPU", "-overwrite_target_spacing", *SPACING, "-overwrite_plans_name", MISSU_PLANS)
        command("nnUNetv2_plan_experiment", *what, *plan)
        folder = self.preprocessed / self.dataset
        plans = json.loads((folder / f"{MISSU_PLANS}.json").read_text())
        plans["configurations"] = {CONFIGURATION: plans["configurations"][CONFIGURATION]}
        plans["configurations"][CONFIGURATION] |= {"patch_size": PATCH_SIZE, "batch_size": BATCH_SIZE}
        (folder / f"{MISSU_PLANS}.json").write_text(json.dumps(plans))
        splits = []
        for left_out in (lambda case: False, lambda case: not self._is_labelled(case)):
            for fold in range(FOLDS):
                validation = self._validation(fold)
                training = [case for case in self.cases if case not in validation and not left_out(case)]
                splits.append({"train": training, "val": validation})
        (folder / "splits_final.json").write_text(json.dumps(splits))
        command("nnUNetv2_preprocess", *what, "-plans_name", MISSU_PLANS, "-c", CONFIGURATION, "-np", 1)
        (folder / f"{UNET_PLANS}.json").write_text(json.dumps(with_unet(plans, CONFIGURATION)))


def patient_of(case: str) -> str:
    """Both frames of a patient belong together."""
    return case.partition("_")[0]


def report(scores: Scores) -> None:
    """Print what every arm scores, and MISSU's difference from each, in single runs and in all that both have."""
    print("| arm | labels | Dice and HD95 of each run | mean Dice | mean HD95 [mm] |\n|---|---|---|---|---|")
    arms = [*ARMS, *sorted({name for name, _ in scores} - ARMS.keys())]  # also those that are no more
    runs = {arm: {run: table(cases) for (name, run), cases in sorted(scores.items()) if name == arm} for arm in arms}
    for arm, arrays in runs.items():
        if arrays:
            means = {run: np.nanmean(array, axis=0) for run, array in arrays.items()}
            each = "; ".join(f"{run}: {mean[0]:.4f}, {mean[1]:.1f}" for run, mean in means.items())
            dice, hd95 = np.nanmean(np.concatenate(list(arrays.values())), axis=0)
            labels = "all masks" if arm.endswith(", all masks") else "missing"
            print(f"| {ARMS.get(arm, f'{arm} (gone)')} | {labels} | {each} | {dice:.4f} | {hd95:.1f} |")
    print("\n| MISSU − | runs | Dice | 95 % interval | HD95 [mm] | 95 % interval |\n|---|---|---|---|---|---|")
    ours = runs.pop("MISSUTrainer")
    for arm, theirs in runs.items():
        pairs = {run: (ours[run], theirs[run]) for run in ours if run in theirs}
        for compared in [[run] for run in pairs] + [list(pairs)] * (len(pairs) > 1):
            chosen = [pairs[run] for run in compared]
            dice, hd95 = difference(chosen, 0, 4), difference(chosen, 1, 1)
            print(f"| {arm} | {', '.join(map(str, compared))} | {dice} | {hd95} |")


if __name__ == "__main__":
    main()

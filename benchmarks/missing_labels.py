"""What MISSU learns where labels are missing, scored on the full masks of patients that no arm has seen.

    python benchmarks/missing_labels.py FOLDER --task .../Task22_HeartScribbles --scores benchmarks/scores/scribbles.csv
    python benchmarks/missing_labels.py FOLDER --task .../Task22_HeartScribbles --labelled 3 --scores .../patients_3.csv
    python benchmarks/missing_labels.py FOLDER --task .../Task21_LeftAtrium --slices 8 --scores .../slices_8.csv

The first asks what scribbles teach, the second what three patients with full masks teach beside others without any
label, the third what every eighth slice teaches; each question and task has a FOLDER of its own. The tasks are those of
``SETTINGS``. Scribbles are the task's own where its full masks lie beside them in ``masksTr``, and otherwise what
``missu dataset sparse`` draws from the masks with the run's seed. Run k trains with seed k and without the patients of
fold k, on whom it is scored; patients that ``--labelled`` may need are in no fold. Choices are made on run 0, what is
reported are the others. The teacher's arm is compared with both networks without one, on the same labels and on all
masks: the gap between those is what there is to gain. Its step takes nearly twice the time, so that it is also compared
with twice as many without it. Where there is no teacher, cases without a label are left out.
``--arms`` takes further arms for all masks, which are compared with MISSU without its teacher. What is scored
are the predictions as they are, and their largest component alone.
Finished scores go into the file of scores and are not trained again, but where the largest component was not scored;
``--runs`` without a number prints the tables of what is there.
"""

import argparse
import json
import re
import zlib
from dataclasses import dataclass
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
    score,
    table,
    with_unet,
    write_scores,
)
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing_to_folder,
    remove_all_but_largest_component_from_segmentation,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.architecture.configuration import planned_arch_kwargs
from missu_nnunet.datasets.sparse import keep_scribbles, keep_slices
from missu_nnunet.nnunet.summary import references_of

MISSU_ALL_MASKS = "MISSUTrainerNoDistillation, all masks"
MISSU_EQUAL_TIME = "MISSUTrainerNoDistillation, twice the epochs"
ARMS = {
    "nnUNetTrainerAdamW": "nnU-Net with MISSU's optimiser",
    "MISSUTrainerNoDistillation": "MISSU without its teacher",
    MISSU_EQUAL_TIME: "MISSU without its teacher, in about the time that it takes with it",
    "MISSUTrainer": "MISSU",
    "nnUNetTrainerAdamW, all masks": "nnU-Net with MISSU's optimiser",
    MISSU_ALL_MASKS: "MISSU without its teacher",
}
FURTHER_ARMS = {
    "MISSUTrainerNoTransformer, all masks": "MISSU without its Transformer",
    "MISSUTrainerFusion, all masks": "MISSU, taught by the authors' fusion blocks",
    "nnUNet_PrimusV3S_Trainer, all masks": "Primus V3-S, in 3D",
}
FOLDS = 5
POSTPROCESSED = ", largest component"
"""Ends an arm's name in the file of scores."""


@dataclass(frozen=True)
class Setting:
    """What makes the task one that a core trains in less than an hour, on patches that hold nearly all of an image."""

    configuration: str
    spacing: tuple[float, ...]
    patch_size: list[int]
    batch_size: int
    in_no_fold: int  # so many patients, the first ones
    shrink: int = 1  # so many voxels of each axis become one before strokes are drawn, which would vanish otherwise


SETTINGS = {
    "Task04_Hippocampus": Setting("3d_fullres", (1, 1, 1), [32, 48, 32], 2, 0),
    "Task21_LeftAtrium": Setting("3d_fullres", (2.5, 2.5, 2.5), [24, 40, 48], 2, 16, shrink=4),
    "Task22_HeartScribbles": Setting("2d", (10, 2.5, 2.5), [160, 128], 2, 7),
    "Task091_DistantCue": Setting("2d", (1, 1, 1), [128, 128], 3, 0),
}


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders go")
    parser.add_argument("--task", type=Path, required=True, help=f"folder of one of {', '.join(SETTINGS)}")
    missing = parser.add_mutually_exclusive_group()
    missing.add_argument("--labelled", type=int, help="patients with full masks; default: scribbles on all")
    missing.add_argument("--slices", type=int, help="every so many slices one with its full mask")
    parser.add_argument("--scores", type=Path, help="file of scores; default: FOLDER/scores.csv")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS | FURTHER_ARMS), metavar="ARM")
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 2, 3], help="folds, each trained with its own seed")
    parser.add_argument("--epochs", type=int, default=12, help="of 250 iterations")
    options = parser.parse_args()
    study = MissingLabels(options.folder, options.task, options.labelled, options.slices)
    scores_file = options.scores or options.folder / "scores.csv"
    scores = read_scores(scores_file)
    for run in options.runs:
        for arm in options.arms:
            if (arm + POSTPROCESSED, run) not in scores:
                fold = study.train_run(trainer_of(arm, options.epochs), run, arm.endswith(", all masks"))
                scores[arm, run] = score(fold)
                scores[arm + POSTPROCESSED, run] = score(largest_component(fold), references_of(fold / "validation"))
                write_scores(scores, scores_file)
    postprocessed = {
        (name.removesuffix(POSTPROCESSED), run): cases
        for (name, run), cases in scores.items()
        if name.endswith(POSTPROCESSED)
    }
    report({(name, run): cases for (name, run), cases in scores.items() if not name.endswith(POSTPROCESSED)})
    if postprocessed:
        print("\nThe largest component of the foreground alone:\n")
        report(postprocessed)


def trainer_of(arm: str, epochs: int) -> str:
    """The trainer of an arm, in a study of so many epochs of 250 iterations."""
    name = arm.split(", ")[0]
    return f"{name}_{2 * epochs if arm == MISSU_EQUAL_TIME else epochs}epochs_250iters_noTTA"


class MissingLabels(Study):
    """Copies of the task in nnU-Net's three folders, one with all masks and one for each run.

    Args:
        folder: holds them.
        task: in Decathlon format.
        labelled: so many patients, the first ones, have full masks and the others no label; None for scribbles or
            slices.
        slices: every so many slices one is labelled; None for scribbles or patients.
    """

    def __init__(self, folder: Path, task: Path, labelled: int | None, slices: int | None) -> None:
        self.setting = SETTINGS[task.resolve().name]
        super().__init__(folder, task, self.setting.configuration)
        self.labelled, self.slices = labelled, slices
        self.number, self.name = int(self.dataset[7:10]), self.dataset[11:]
        self.masks = task / "masksTr" if (task / "masksTr").is_dir() else task / "labelsTr"
        self.cases = sorted(file.name.removesuffix(".nii.gz") for file in self.masks.glob("*.nii.gz"))
        self.description = json.loads((task / "dataset.json").read_text())
        self.labels = {name: int(label) for label, name in self.description["labels"].items()}
        self.ignore = self.labels.setdefault("ignore", len(self.labels))
        self.patients = sorted({patient_of(case) for case in self.cases})

    def train_run(self, trainer: str, run: int, all_masks: bool, plans: str | None = None) -> Path:
        """Train once, with the plans of that name or its planner's, and return the fold's folder."""
        self.prepare_run(run, all_masks)
        # A U-Net has no way to leave out the cases without a label, so that its folds do.
        leaves_out = self.labelled is not None and not all_masks and not trainer.startswith("MISSU")
        return self.train(trainer, run + FOLDS * leaves_out, seed=run, plans=plans)

    def prepare_run(self, run: int, all_masks: bool) -> None:
        """Write, plan and preprocess the run's dataset, or that of all runs, once."""
        number = self.number if all_masks else 10 * self.number + run
        self.dataset = f"Dataset{number:03d}_{self.name}"
        if not (self.preprocessed / self.dataset / f"{UNET_PLANS}.json").exists():
            self.write_raw(run, all_masks)
            self._plan()

    def _validation(self, fold: int) -> list[str]:
        patients = self.patients[self.setting.in_no_fold :][fold::FOLDS]
        return [case for case in self.cases if patient_of(case) in patients]

    def write_raw(self, run: int, all_masks: bool) -> None:
        """Write the raw dataset of ``self.dataset``: the run's validation cases have full masks."""
        folder = self.raw / self.dataset
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        validation = self._validation(run)
        for case in self.cases:
            image = sitk.ReadImage(str(self.task / "imagesTr" / f"{case}.nii.gz"))
            image = sitk.BinShrink(image, [self.setting.shrink] * 3)
            sitk.WriteImage(image, str(folder / "imagesTr" / f"{case}_0000.nii.gz"))
            label = read_labels(self.masks / f"{case}.nii.gz", image)
            if not (all_masks or case in validation or self._is_labelled(case)):
                label = self._with_less(case, label, run)
            sitk.WriteImage(label, str(folder / "labelsTr" / f"{case}.nii.gz"))
        dataset = {
            "channel_names": self.description["modality"],
            "labels": self.labels,
            "numTraining": len(self.cases),
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(dataset))

    def _with_less(self, case: str, mask: sitk.Image, run: int) -> sitk.Image:
        if self.labelled is None and self.slices is None and self.masks.name == "masksTr":
            return read_labels(self.task / "labelsTr" / f"{case}.nii.gz", mask)
        slices = sitk.GetArrayFromImage(mask)
        rng = np.random.default_rng([run, zlib.crc32(case.encode())])
        if self.labelled is not None:
            slices[:] = self.ignore
        elif self.slices is not None:
            slices = keep_slices(slices, self.ignore, self.slices, rng)
        else:
            slices = keep_scribbles(slices, self.ignore, rng)
        label = sitk.GetImageFromArray(slices)
        label.CopyInformation(mask)
        return label

    def _is_labelled(self, case: str) -> bool:
        return self.labelled is not None and patient_of(case) in self.patients[: self.labelled]

    def _plan(self) -> None:
        what = ("-d", self.dataset[7:10])
        command("nnUNetv2_extract_fingerprint", *what, "-np", 1)
        spacing = ("-overwrite_target_spacing", *self.setting.spacing, "-overwrite_plans_name", MISSU_PLANS)
        command("nnUNetv2_plan_experiment", *what, "-pl", "MISSUPlannerCPU", *spacing)
        folder = self.preprocessed / self.dataset
        plans = json.loads((folder / f"{MISSU_PLANS}.json").read_text())
        sizes = {"patch_size": self.setting.patch_size, "batch_size": self.setting.batch_size}
        plan = plans["configurations"][self.configuration] | sizes
        plans["configurations"] = {self.configuration: plan}
        unet_plans = with_unet(plans, self.configuration)
        unet = unet_plans["configurations"][self.configuration]["architecture"]["arch_kwargs"]
        plan["architecture"]["arch_kwargs"] = planned_arch_kwargs(unet, self.setting.patch_size)
        (folder / f"{MISSU_PLANS}.json").write_text(json.dumps(plans))
        splits = []
        for left_out in (lambda case: False, lambda case: not self._is_labelled(case)):
            for fold in range(FOLDS):
                validation = self._validation(fold)
                training = [case for case in self.cases if case not in validation and not left_out(case)]
                splits.append({"train": training, "val": validation})
        (folder / "splits_final.json").write_text(json.dumps(splits))
        command("nnUNetv2_preprocess", *what, "-plans_name", MISSU_PLANS, "-c", self.configuration, "-np", 1)
        (folder / f"{UNET_PLANS}.json").write_text(json.dumps(unet_plans))


def largest_component(fold: Path) -> Path:
    """The fold's validation without what does not belong to the largest object, as nnU-Net's post-processing has it.

    nnU-Net finds out on its validation cases whether this is better. Here that is known of the tasks, which are of one
    object, and nothing is chosen on cases that are scored.
    """
    postprocessed = fold / "largest_component"
    dataset = json.loads((fold.parent / "dataset.json").read_text())
    plans = PlansManager(json.loads((fold.parent / "plans.json").read_text()))
    foreground = plans.get_label_manager(dataset).foreground_labels
    apply_postprocessing_to_folder(
        str(fold / "validation"),
        str(postprocessed),
        [remove_all_but_largest_component_from_segmentation],
        [{"labels_or_regions": foreground}],
        plans.plans,
        dataset,
        num_processes=1,
    )
    return postprocessed


def read_labels(file: Path, grid: sitk.Image) -> sitk.Image:
    """A label map on the grid of an image."""
    return sitk.Resample(sitk.ReadImage(str(file), sitk.sitkInt16), grid, sitk.Transform(), sitk.sitkNearestNeighbor)


def patient_of(case: str) -> str:
    """Both frames of a patient belong together."""
    return re.sub(r"_frame\d+$", "", case)


def report(scores: Scores) -> None:
    """Print what every arm scores, and how they differ, in single runs and in all."""
    print("| arm | labels | Dice and HD95 of each run | mean Dice | mean HD95 [mm] |\n|---|---|---|---|---|")
    known = ARMS | FURTHER_ARMS
    arms = [*known, *sorted({name for name, _ in scores} - known.keys())]  # also those that are no more
    runs = {arm: {run: table(cases) for (name, run), cases in sorted(scores.items()) if name == arm} for arm in arms}
    for arm, arrays in runs.items():
        if arrays:
            labels = "all masks" if arm.endswith(", all masks") else "missing"
            print(f"| {known.get(arm, f'{arm} (gone)')} | {labels} | {mean_cells(arrays)} |")
    print("\n| arm | compared with | runs | Dice | 95 % interval | HD95 [mm] | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    pairs = [("MISSUTrainer", arm) for arm in arms if arm not in {"MISSUTrainer", *FURTHER_ARMS}]
    pairs += [(MISSU_ALL_MASKS, arm) for arm in arms if arm.endswith(", all masks") and arm != MISSU_ALL_MASKS]
    for arm, other in pairs:
        for cells in difference_cells(runs[arm], runs[other]):
            print(f"| {arm} | {other} | {cells} |")


def mean_cells(arrays: dict[int, np.ndarray]) -> str:
    """Three cells: Dice and HD95 of each run, and the mean of each over all cases."""
    means = {run: np.nanmean(array, axis=0) for run, array in arrays.items()}
    each = "; ".join(f"{run}: {mean[0]:.4f}, {mean[1]:.1f}" for run, mean in means.items())
    dice, hd95 = np.nanmean(np.concatenate(list(arrays.values())), axis=0)
    return f"{each} | {dice:.4f} | {hd95:.1f}"


def difference_cells(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray]) -> list[str]:
    """Five cells for each run that both have, and for all of them: the runs, and the differences with intervals."""
    pairs = {run: (ours[run], theirs[run]) for run in ours if run in theirs}
    rows = []
    for compared in [[run] for run in pairs] + [list(pairs)] * (len(pairs) > 1):
        chosen = [pairs[run] for run in compared]
        dice, hd95 = difference(chosen, 0, 4), difference(chosen, 1, 1)
        rows.append(f"{', '.join(map(str, compared))} | {dice} | {hd95}")
    return rows


if __name__ == "__main__":
    main()

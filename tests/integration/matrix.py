"""nnU-Net's integration matrix with MISSU: every configuration in every label mode, through nnU-Net's own commands.

    python tests/integration/matrix.py FOLDER --task .../Task04_Hippocampus

makes nnU-Net's four integration datasets with its own generators, adds 3d_lowres and the cascade to their plans as its
integration tests do, and takes each through planning, training, validation, the choice of the best configuration,
prediction, ensembling and postprocessing. Prints a table in Markdown. A step that fails does not stop the others; steps
that are finished are skipped when the command is given again. What every step printed is kept in FOLDER/logs.

The steps are nnU-Net's own entry points with their command lines, but in forked processes: importing everything anew
for each of a hundred steps and its workers would take longer than what they do.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from forked import start

SOURCE_ID = 4
MODES = {  # dataset made by nnU-Net's generator → its label mode
    "Dataset999_IntegrationTest_Hippocampus": "labels",
    "Dataset997_IntegrationTest_Hippocampus_regions": "regions",
    "Dataset998_IntegrationTest_Hippocampus_ignore": "ignore label",
    "Dataset996_IntegrationTest_Hippocampus_regions_ignore": "regions, ignore label",
}
CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")
FOLDS = (0, 1)
PROCESSES = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "OMP_WAIT_POLICY": "PASSIVE"}
PLANS = "nnUNetPlans"  # the name that nnU-Net's script for 3d_lowres and the cascade looks for
GENERATORS = "nnunetv2.dataset_conversion.datasets_for_integration_tests"
ADD_CASCADE = "nnunetv2.tests.integration_tests.add_lowres_and_cascade"


def main() -> None:
    """Run the whole matrix and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where nnU-Net's three folders and the logs go")
    parser.add_argument("--task", type=Path, required=True, help="Task04_Hippocampus of the Decathlon")
    parser.add_argument("--cases", type=int, help="only so many, the first ones")
    parser.add_argument("--trainer", default="MISSUTrainer_2epochs_25iters")
    parser.add_argument("--datasets", nargs="+", default=list(MODES), choices=list(MODES), metavar="DATASET")
    options = parser.parse_args()
    os.environ |= PROCESSES  # before nnU-Net is imported, which reads them then
    matrix = Matrix(options.folder, options.trainer)
    matrix.convert(options.task, options.cases)
    for dataset in options.datasets:
        matrix.run(dataset, CONFIGURATIONS)
    print(matrix.table())
    sys.exit(not all(matrix.passed.values()))


class Matrix:
    """The steps in one folder.

    Args:
        folder: holds nnU-Net's three folders, the predictions and the logs.
        trainer: name of the trainer.

    Attributes:
        passed: (dataset, configuration or "all", step) → whether it succeeded.
    """

    def __init__(self, folder: Path, trainer: str) -> None:
        self.folder = folder.resolve()
        self.trainer = trainer
        self.passed: dict[tuple[str, str, str], bool] = {}
        self.raw, self.preprocessed, self.results = (
            self.folder / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        )
        folders = {path.name: str(path) for path in (self.raw, self.preprocessed, self.results)}
        self.environment = os.environ | folders
        for path in (self.raw, self.preprocessed, self.results, self.folder / "logs"):
            path.mkdir(parents=True, exist_ok=True)

    def convert(self, task: Path, cases: int | None) -> None:
        """The Decathlon's task, or its first cases, in nnU-Net's format."""
        source = self.folder / task.name
        if not source.exists():
            dataset = json.loads((task / "dataset.json").read_text())
            dataset["training"] = dataset["training"][:cases]
            # What is predicted is not scored: training images serve as well, and every copy of the task has them.
            dataset["test"] = [case["image"] for case in dataset["training"][:2]]
            dataset |= {"numTraining": len(dataset["training"]), "numTest": len(dataset["test"])}
            copies = [(file, file) for case in dataset["training"] for file in case.values()]
            copies += [(file, file.replace("imagesTr", "imagesTs")) for file in dataset["test"]]
            dataset["test"] = [copy for _, copy in copies[-len(dataset["test"]) :]]
            for file, copy in copies:
                (source / copy).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(task / file, source / copy)
            (source / "dataset.json").write_text(json.dumps(dataset))
        self.step("source", "all", "convert", "nnUNetv2_convert_MSD_dataset", "-i", source, "-np", 1)

    def run(self, dataset: str, configurations: tuple[str, ...]) -> None:
        """Everything for one of nnU-Net's integration datasets; the source dataset must be in ``nnUNet_raw``."""
        number = int(dataset[7:10])
        self.step(dataset, "all", "generate", f"{GENERATORS}.{dataset}")
        self.step(dataset, "all", "fingerprint", "nnUNetv2_extract_fingerprint", "-d", number, "-np", 1)
        plan = ("-d", number, "-pl", "MISSUPlannerCPU", "-overwrite_plans_name", PLANS)
        self.step(dataset, "all", "plan", "nnUNetv2_plan_experiment", *plan)
        self.step(dataset, "all", "add lowres and cascade", ADD_CASCADE, "-d", number)
        if self.passed[dataset, "all", "add lowres and cascade"]:
            self.make_lowres_plain(dataset)
        preprocessed = [configuration for configuration in configurations if configuration != "3d_cascade_fullres"]
        each = ("-np", *[1] * len(preprocessed))
        arguments = ("-d", number, "-plans_name", PLANS, "-c", *preprocessed, *each)
        self.step(dataset, "all", "preprocess", "nnUNetv2_preprocess", *arguments)
        self.write_splits(dataset)
        for configuration in configurations:
            self.train(dataset, number, configuration)
        best = ("-c", *configurations, "-tr", self.trainer, "-p", PLANS, "-f", *FOLDS, "-np", 1)
        self.step(dataset, "all", "best", "nnUNetv2_find_best_configuration", number, *best)
        for configuration in configurations:
            self.predict(dataset, number, configuration)
        self.ensemble(dataset, configurations)
        self.postprocess(dataset)

    def make_lowres_plain(self, dataset: str) -> None:
        """nnU-Net's script names the convolutions of a plain encoder beside what it copied from 3d_fullres."""
        file = self.preprocessed / dataset / f"{PLANS}.json"
        plans = json.loads(file.read_text())
        plans["configurations"]["3d_lowres"]["architecture"]["arch_kwargs"].pop("n_blocks_per_stage", None)
        file.write_text(json.dumps(plans))

    def write_splits(self, dataset: str) -> None:
        """Two folds that cover all cases: the cascade needs the low resolution's prediction of every one."""
        cases = sorted(file.name.removesuffix(".nii.gz") for file in (self.raw / dataset / "labelsTr").glob("*.nii.gz"))
        halves = cases[::2], cases[1::2]
        splits = [{"train": halves[1 - fold], "val": halves[fold]} for fold in FOLDS]
        (self.preprocessed / dataset / "splits_final.json").write_text(json.dumps(splits))

    def train(self, dataset: str, number: int, configuration: str) -> None:
        """Train and validate both folds, then validate the first once more from its checkpoint."""
        command = ("nnUNetv2_train", number, configuration)
        options = ("-tr", self.trainer, "-p", PLANS, "-device", "cpu", "--npz")
        for fold in FOLDS:
            self.step(dataset, configuration, f"train {fold}", *command, fold, *options)
        self.step(dataset, configuration, "--val", *command, FOLDS[0], *options, "--val")

    def predict(self, dataset: str, number: int, configuration: str) -> None:
        """Predict the test images with both folds; the cascade starts from the low resolution's prediction."""
        options = ("-tr", self.trainer, "-p", PLANS, "-device", "cpu", "-f", *FOLDS, "--save_probabilities")
        if configuration == "3d_cascade_fullres":
            options += ("-prev_stage_predictions", self.predictions(dataset, "3d_lowres"))
        folders = ("-i", self.raw / dataset / "imagesTs", "-o", self.predictions(dataset, configuration))
        arguments = ("-d", number, "-c", configuration, *folders, *options, "-npp", 1, "-nps", 1)
        self.step(dataset, configuration, "predict", "nnUNetv2_predict", *arguments)

    def ensemble(self, dataset: str, configurations: tuple[str, ...]) -> None:
        """Average the probabilities of all configurations."""
        inputs = [self.predictions(dataset, configuration) for configuration in configurations]
        folders = ("-i", *inputs, "-o", self.predictions(dataset, "ensemble"))
        self.step(dataset, "all", "ensemble", "nnUNetv2_ensemble", *folders, "-np", 1)

    def postprocess(self, dataset: str) -> None:
        """Apply what nnU-Net found best to the predictions of the configuration, or the ensemble, it found best."""
        information = self.results / dataset / "inference_information.json"
        if not information.exists():
            self.passed[dataset, "all", "postprocess"] = False
            return
        best = json.loads(information.read_text())["best_model_or_ensemble"]
        models = best["selected_model_or_models"]
        source = "ensemble" if len(models) > 1 else models[0]["configuration"]
        folders = ("-i", self.predictions(dataset, source), "-o", self.predictions(dataset, "postprocessed"))
        files = ("-pp_pkl_file", best["postprocessing_file"], "-plans_json", best["some_plans_file"])
        dataset_json = ("-dataset_json", self.raw / dataset / "dataset.json")
        arguments = (*folders, *files, *dataset_json, "-np", 1)
        self.step(dataset, "all", "postprocess", "nnUNetv2_apply_postprocessing", *arguments)

    def predictions(self, dataset: str, name: str) -> Path:
        """Folder of the segmentations of the test images."""
        return self.folder / "predictions" / dataset / name

    def step(self, dataset: str, configuration: str, step: str, name: str, *arguments: object) -> None:
        """Run a command of nnU-Net, or a module that has none, unless it is finished, and note whether it succeeded."""
        log = self.folder / "logs" / f"{dataset} {configuration} {step}.log"
        finished = log.with_suffix(".finished")
        if not finished.exists():
            begin = time.monotonic()
            log.write_text(" ".join(map(str, (name, *arguments))) + "\n")
            process = start(name, *arguments, log=log, environment=self.environment)
            process.join()
            outcome = f"exit code {process.exitcode}, {time.monotonic() - begin:.0f} s"
            print(f"{dataset} {configuration} {step}: {outcome}", file=sys.stderr, flush=True)
            if process.exitcode == 0:
                finished.touch()
        self.passed[dataset, configuration, step] = finished.exists()

    def dice(self, dataset: str, configuration: str, fold: int) -> float | None:
        """Mean Dice of a fold's validation."""
        model = self.results / dataset / f"{self.trainer}__{PLANS}__{configuration}"
        summary = model / f"fold_{fold}" / "validation" / "summary.json"
        return json.loads(summary.read_text())["foreground_mean"]["Dice"] if summary.exists() else None

    def table(self) -> str:
        """Dataset × configuration × step, with the validation's Dice."""
        lines = [
            "| label mode | configuration | Dice of each fold's validation | --val | predict |",
            "|---|---|---|---|---|",
        ]
        for dataset, configuration in dict.fromkeys(key[:2] for key in self.passed if key[1] in CONFIGURATIONS):
            scores = [self.dice(dataset, configuration, fold) for fold in FOLDS]
            cells = [MODES[dataset], configuration, ", ".join("failed" if s is None else f"{s:.3f}" for s in scores)]
            cells += [self.word(dataset, configuration, step) for step in ("--val", "predict")]
            lines.append(f"| {' | '.join(cells)} |")
        steps = list(dict.fromkeys(step for dataset, which, step in self.passed if which == "all" and dataset in MODES))
        lines += ["", f"| label mode | {' | '.join(steps)} |", f"|---|{'---|' * len(steps)}"]
        for dataset in dict.fromkeys(dataset for dataset, _, _ in self.passed if dataset in MODES):
            lines.append(f"| {MODES[dataset]} | {' | '.join(self.word(dataset, 'all', step) for step in steps)} |")
        return "\n".join(lines)

    def word(self, dataset: str, configuration: str, step: str) -> str:
        """How a step ended."""
        return "✓" if self.passed.get((dataset, configuration, step)) else "failed"


if __name__ == "__main__":
    main()

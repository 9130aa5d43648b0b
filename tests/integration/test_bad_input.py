"""Bad input to every command: one clear line and exit code 2, no traceback, nothing half-written.

Where nnU-Net looks first, the error is nnU-Net's own: those cases expect exit code 1 and its words.
"""

import json
import math
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from checkpoints import dataset_json, initialized, saved, tiny_plans, write_plans
from full_disk import largest_file
from hostile import LONG_NAMES, NO_FILES, TABLES, TARS, ZIPS, itself, nested, no_file, unfolding
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_dataset import write_raw_dataset

from missu_nnunet.files import PARTIAL

DATASET = "Dataset903_Tiny"
PLANS = "nnUNetMISSUPlansCPU"
CASES = [f"case_{number}" for number in range(3)]
READ_ONLY = Path("/sys")  # to root as well, whom permissions do not stop


def write_labels(file: Path, labels: Sequence[int] = (0, 1, 2), spacing: float = 1.0) -> None:
    """A segmentation in bands of the labels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.repeat(np.array(labels, np.uint8), 24).reshape(-1, 4, 6))
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(file))


def cut(file: Path) -> None:
    """Leave the first half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(file: Path, change: Callable[[Any], Any]) -> Path:
    """Change what a JSON file holds, in place or to what ``change`` returns."""
    content = json.loads(file.read_text())
    content = change(content) or content
    file.write_text(json.dumps(content))
    return file


@dataclass(frozen=True)
class Desk:
    """An empty folder, and valid files to spoil."""

    folder: Path
    missu: Path
    stock: Path
    patch: pytest.MonkeyPatch

    def text(self, text: str = "not what you think") -> Path:
        file = self.folder / "text"
        file.write_text(text)
        return file

    def pipe(self) -> Path:
        """A pipe that nobody writes to."""
        file = self.folder / "pipe"
        os.mkfifo(file)
        return file

    def described(self, **changes: object) -> Path:
        """A raw dataset whose dataset.json has other values."""
        return self.raw(lambda folder: edit(folder / "dataset.json", lambda content: content | changes) and None)

    def record(self, text: str, name: str = "experiment.json") -> tuple[object, ...]:
        """A record of an experiment in its place; what comes after ``missu crossval`` to read it."""
        results = self.folder / "nnUNet_results"
        file = results / DATASET / "crossval" / "3d_fullres" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        self.patch.setenv("nnUNet_results", str(results))
        return "status", "903"

    def plans(self, change: Callable[[Any], Any] = dict, dataset: dict[str, Any] | None = None) -> Path:
        """A plans file with its dataset.json, changed."""
        file = write_plans(self.folder / "plans", tiny_plans(), dataset or dataset_json())
        return edit(file, change)

    def configuration(self, change: Callable[[Any], Any]) -> Path:
        """A plans file whose one configuration is changed."""
        return self.plans(lambda plans: change(plans["configurations"]["3d_fullres"]))

    def checkpoint(self, change: Callable[[Any], Any]) -> Path:
        """MISSU's checkpoint, changed."""
        content = torch.load(self.missu, weights_only=False)
        change(content)
        file = self.folder / "checkpoint.pth"
        torch.save(content, file)
        return file

    def copy(self, source: Path) -> Path:
        return Path(shutil.copy(source, self.folder / "copy.pth"))

    def raw(self, change: Callable[[Path], Any] = str) -> Path:
        """A raw dataset, its folder changed."""
        folder = self.folder / "raw" / write_raw_dataset(self.folder / "raw", 906)
        change(folder)
        return folder

    def task(self, change: Callable[[Path], Any] = str, name: str = "Task07_Tiny") -> Path:
        """A Decathlon task, its folder changed."""
        folder = self.folder / "source" / name
        for case in CASES:
            write_labels(folder / "imagesTr" / f"{case}.nii.gz", range(3))
            write_labels(folder / "labelsTr" / f"{case}.nii.gz")
        listed = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in CASES]
        labels = {"0": "background", "1": "shell", "2": "core"}
        content = {"modality": {"0": "MRI"}, "labels": labels, "training": listed, "test": []}
        (folder / "dataset.json").write_text(json.dumps(content))
        change(folder)
        return folder

    def brats(self, change: Callable[[Path], Any]) -> Path:
        """A BraTS tree of one case, the case's folder changed."""
        case = self.folder / "source" / "MICCAI_BraTS_2019_Data_Training" / "HGG" / "BraTS19_A_1"
        for modality in ("flair", "t1", "t1ce", "t2", "seg"):
            write_labels(case / f"{case.name}_{modality}.nii.gz", (0, 1, 2, 4))
        change(case)
        return self.folder / "source"

    def segmentations(self, name: str, change: Callable[[Path], Any] = str) -> Path:
        """A folder of segmentations, changed."""
        folder = self.folder / name
        for case in CASES:
            write_labels(folder / f"{case}.nii.gz")
        change(folder)
        return folder

    def pair(self, change: Callable[[Path], Any]) -> tuple[Path, Path]:
        """Predictions, changed, and references."""
        return self.segmentations("predictions", change), self.segmentations("references")

    def arms(self, change: Callable[[Path], Any]) -> tuple[object, ...]:
        """Two folders of predictions, the second one changed, and the references' option."""
        references = self.segmentations("references")
        return self.segmentations("first"), self.segmentations("second", change), "--reference", references

    def model(self, name: str, content: bytes = b"", count: int = 1) -> Path:
        """A zip with members of that content."""
        file = self.folder / "model.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(count):
                archive.writestr(name.format(number), content)
        return file

    def file(self, name: str, content: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        return file

    def trained_model(
        self, change: Callable[[Any], Any] = dict, name: str = "plans.json", checkpoint: Path | None = None
    ) -> list[object]:
        """Arguments of ``missu predict``: an image, and a model of which one JSON file is changed."""
        folder = self.folder / "Trainer__Plans__3d_fullres"
        write_plans(folder, tiny_plans() | {"image_reader_writer": "SimpleITKIO"}, dataset_json())
        edit(folder / name, change)
        (folder / "fold_0").mkdir()
        shutil.copy(checkpoint or self.missu, folder / "fold_0" / "checkpoint_final.pth")
        write_labels(image := self.folder / "case_0000.nii.gz")
        return [image, "-o", self.folder / "predictions", "-m", folder, "--device", "cpu"]

    def planned(self, change: Callable[[Any], Any]) -> list[object]:
        """Arguments of ``missu crossval``, with plans that are changed."""
        plans = Path(os.environ["nnUNet_preprocessed"]) / DATASET / "StrangersPlans.json"
        shutil.copy(plans.with_name(f"{PLANS}.json"), plans)
        edit(plans, change)
        return [DATASET, "3d_fullres", "--trainers", "MISSUTrainer", "--plans", plans.stem, "--gpus-per-job", 0]

    def demo(self, marker: str | None) -> Path:
        """A folder that a demo has been in, or something else."""
        folder = self.folder / "demo"
        folder.mkdir()
        (folder / ("mine" if marker is None else "missu-demo.json")).write_text(marker or "")
        return folder


class Runs:
    """Unpickled, it would run code."""

    def __reduce__(self) -> tuple:
        return os.getcwd, ()


def without(*keys: str) -> Callable[[dict], None]:
    """Take the key out that the others lead to."""

    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def spoil(name: str) -> Callable[[Path], None]:
    return lambda folder: cut(folder / name)


def relabel(name: str, *labels: int, spacing: float = 1.0) -> Callable[[Path], None]:
    return lambda folder: write_labels(folder / name, labels, spacing)


def rewrite(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def empty_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def without_plan(content: dict) -> None:
    del content["init_args"]["plans"]["configurations"]["3d_fullres"]["patch_size"]


def one_stage(configuration: dict) -> None:
    kwargs = configuration["architecture"]["arch_kwargs"]
    kwargs |= {"n_stages": 1, "strides": [[1, 1, 1]], "kernel_sizes": [[3, 3, 3]], "features_per_stage": [4]}
    blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in kwargs else "n_conv_per_stage"
    kwargs |= {blocks: [2], "n_conv_per_stage_decoder": []}


def primus(configuration: dict) -> None:
    configuration["architecture"]["arch_kwargs"] = {"embed_dim": 8, "patch_embed_size": [4, 4, 4]}


def named(name: Any, key: str = "network_class_name") -> Callable[[dict], None]:
    """Put a foreign name into every configuration of a plan."""

    def change(plans: dict) -> None:
        for configuration in plans["configurations"].values():
            architecture = configuration["architecture"]
            (architecture["arch_kwargs"] if key == "conv_op" else architecture)[key] = name

    return change


def in_plans(change: Callable[[Any], Any]) -> Callable[[dict], None]:
    """Change the plans that a checkpoint holds."""
    return lambda content: change(content["init_args"]["plans"])


def in_configuration(values: dict[str, Any]) -> Callable[[dict], None]:
    """Change values of a plan's configuration."""
    return lambda plans: plans["configurations"]["3d_fullres"].update(values)


KWARGS = ("architecture", "arch_kwargs")


def put(value: object, *keys: str) -> Callable[[dict], None]:
    """Put a value where the keys lead."""

    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


Arrange = Callable[[Desk], Sequence[object]]

INFO: list[tuple[Arrange, str]] = [
    (lambda desk: [desk.folder / "no.json"], "no such file; give a plans file"),
    (lambda desk: [desk.folder], "a folder, expected a file"),
    (lambda desk: [desk.text("{")], "cannot be read as JSON"),
    (lambda desk: [desk.text("[" * 100_000)], "cannot be read as JSON"),
    (lambda desk: [desk.text('{"a": ' + "9" * 5000 + "}")], "cannot be read as JSON"),
    (lambda desk: [desk.pipe()], "a pipe, device or socket, expected a file"),
    (lambda desk: [desk.plans(lambda plans: [plans])], "holds a JSON list, expected an object"),
    (lambda desk: [desk.plans(), "-c", "4d"], r"no configuration '4d', found \['3d_fullres'\]"),
    (lambda desk: [desk.plans(without("configurations"))], "the key 'configurations' is missing"),
    (lambda desk: [desk.plans(put([], "configurations"))], "configurations: found .*, expected an object"),
    (lambda desk: [desk.plans(put({}, "configurations"))], "configurations: found {}"),
    (
        lambda desk: [desk.plans(put(None, "configurations", "3d_fullres"))],
        "3d_fullres: found None, expected an object",
    ),
    (lambda desk: [desk.plans(put(3, "plans_name"))], "plans_name: found 3, expected text"),
    (lambda desk: [desk.configuration(put("3d_fullres", "inherits_from"))], "is not as nnU-Net writes it"),
    (lambda desk: [desk.configuration(put([], "patch_size"))], "patch_size: found .., "),
    (lambda desk: [desk.configuration(put([16, math.inf, 16], "patch_size"))], "patch_size.1: found inf"),
    (lambda desk: [desk.configuration(put(10**30, "batch_size"))], "batch_size: found 1000"),
    (lambda desk: [desk.configuration(put(10**9, *KWARGS, "n_stages"))], "n_stages: found 1000000000"),
    (
        lambda desk: [desk.configuration(put([10**9] * 3, *KWARGS, "n_conv_per_stage"))],
        "n_conv_per_stage.0: found",
    ),
    (lambda desk: [desk.configuration(put([], "architecture"))], "architecture: found .., expected an object"),
    (lambda desk: [desk.configuration(without("architecture"))], "is not as nnU-Net writes it"),
    (lambda desk: [desk.configuration(without("patch_size"))], "the key 'patch_size' is missing"),
    (lambda desk: [desk.configuration(primus)], "MISSU follows plans for PlainConvUNet"),
    (lambda desk: [desk.configuration(one_stage)], "has a single stage"),
    (lambda desk: [desk.plans(dataset={"labels": {}})], "dataset.json: labels: found {}"),
    (lambda desk: [desk.plans(dataset=dataset_json() | {"channel_names": ["MRI"]})], "dataset.json: channel_names"),
    (lambda desk: [desk.plans(dataset=dataset_json(labels={"a": math.inf}))], "labels.a: found inf"),
    (lambda desk: [Path(shutil.move(desk.plans(), desk.folder))], "dataset.json: no such file; nnU-Net puts it beside"),
]

DATASETS: list[tuple[Arrange, str]] = [
    (lambda desk: ["verify", desk.folder], "no dataset there"),
    (lambda desk: ["verify", "907"], "found none in nnUNet_raw"),
    (lambda desk: ["verify", desk.raw(rewrite("dataset.json", "{"))], "cannot be read as JSON"),
    (lambda desk: ["verify", desk.raw(rewrite("dataset.json", "{}"))], "the key 'labels' is missing"),
    (
        lambda desk: ["verify", desk.raw(rewrite("dataset.json", '{"labels": {"a": "b"}}'))],
        "labels.a: found 'b', labels must map names to whole numbers",
    ),
    (lambda desk: ["verify", desk.described(channel_names={"R": 0})], "channel_names.R"),
    (lambda desk: ["verify", desk.described(labels={"background": 0, "ignore": []})], "the ignore label must be"),
    (lambda desk: ["verify", desk.described(file_ending="")], "file_ending: found ''"),
    (lambda desk: ["verify", desk.described(dataset=None)], "dataset: found None"),
    (
        lambda desk: [
            "verify",
            desk.raw(lambda folder: [shutil.rmtree(folder / name) for name in ("imagesTr", "labelsTr")]),
        ],
        "found no training case",
    ),
    (lambda desk: ["verify", desk.raw(rewrite("splits_final.json", "{"))], "not nnU-Net's splits"),
    (lambda desk: ["verify", desk.raw(rewrite("splits_final.json", "{}"))], "found {}, expected a list; not nnU-Net's"),
    (
        lambda desk: ["verify", desk.raw(rewrite("splits_final.json", '[{"train": "all", "val": []}]'))],
        "0.train: found",
    ),
    (lambda desk: ["verify", desk.raw(), "--patient", "("], "--patient .*expected a regular expression"),
    (lambda desk: ["verify", desk.raw(), "--patient", "(x)"], "does not match case case_000"),
    (lambda desk: ["unlabelled", desk.raw()], "expected images to add, or --remove"),
    (lambda desk: ["unlabelled", desk.raw(), "--remove"], "missu has added no unlabelled cases"),
    (lambda desk: ["unlabelled", desk.raw(), desk.folder / "no"], "no such file or folder"),
    (lambda desk: ["unlabelled", desk.raw(), desk.text()], "expected an image file ending in .nii.gz"),
    (
        lambda desk: ["unlabelled", raw := desk.raw(), raw / "imagesTs"],
        "case_000_0000.nii.gz: Dataset906_Tiny has a training case case_000",
    ),
    (
        lambda desk: ["unlabelled", desk.raw(), desk.segmentations("new", rewrite("case_1_0000.nii.gz", "text"))],
        "case_1_0000.nii.gz: not a readable image",
    ),
    (lambda desk: ["sparse", desk.raw(), "New", "--scribbles"], "New: expected the name of a dataset to make"),
    (lambda desk: ["sparse", desk.raw(), "Dataset907_New"], "expected --scribbles, --slices N or --cases N"),
    (lambda desk: ["sparse", desk.raw(), "Dataset907_New", "--cases", "7"], "--cases 7: Dataset906_Tiny has 6 cases"),
    (lambda desk: ["sparse", desk.raw(), "Dataset903_New", "--cases", "2"], "found Dataset903_Tiny in nnU-Net's"),
    (lambda desk: ["msd", desk.folder / "no"], "neither a folder, nor an archive"),
    (lambda desk: ["msd", "Task04"], "no such folder or archive; add --download"),
    (lambda desk: ["msd", desk.task(name="Tiny")], "found no task number in the name"),
    (lambda desk: ["msd", desk.task(unlink("dataset.json"))], "dataset.json: no such file"),
    (lambda desk: ["msd", desk.task(rewrite("dataset.json", '{"labels": {}}'))], "the key 'modality' is missing"),
    (
        lambda desk: [
            "msd",
            desk.task(lambda task: edit(task / "dataset.json", lambda content: content | {"modality": 1})),
        ],
        "modality: found 1, expected an object",
    ),
    (lambda desk: ["msd", desk.task(unlink("labelsTr/case_1.nii.gz"))], "no labelsTr/case_1.nii.gz"),
    (lambda desk: ["msd", desk.task(spoil("imagesTr/case_1.nii.gz"))], "cases not converted, first case_1"),
    (lambda desk: ["msd", desk.task(relabel("labelsTr/case_1.nii.gz", 0, 1, 7))], "refused by nnU-Net's integrity"),
    (lambda desk: ["msd", desk.task(name="Task07_Other"), "--id", "903"], "found Dataset903_Tiny in nnU-Net's folders"),
    (lambda desk: ["msd", desk.text("x" * 5000)], "cannot be read as a tar"),
    (lambda desk: ["msd", desk.text(), "--symlink"], "an archive cannot be linked to"),
    (lambda desk: ["brats2019", desk.folder / "no"], "no such folder"),
    (lambda desk: ["brats2019", desk.task()], "found no cases in HGG or LGG"),
    (lambda desk: ["brats2019", desk.brats(unlink("BraTS19_A_1_t2.nii.gz"))], "t2"),
    (lambda desk: ["brats2019", desk.brats(relabel("BraTS19_A_1_seg.nii.gz", 0, 1, 2, 3)), "--id", "907"], "label 3"),
    (lambda desk: ["brats2019-submit", desk.folder / "no", desk.folder / "out"], "no such folder"),
    (
        lambda desk: [
            "brats2019-submit",
            desk.segmentations("in", relabel("case_0.nii.gz", 0, 9, 1)),
            desk.folder / "out",
        ],
        "9",
    ),
    (lambda desk: ["chaos", desk.folder], "expected either --task"),
    (lambda desk: ["chaos", desk.folder, "--modality", "pet"], "--modality pet: unknown"),
    (lambda desk: ["chaos", desk.folder, "--task", "2"], "Train_Sets"),
    (lambda desk: ["chaos-submit", desk.folder / "no", desk.folder / "out", "--dicom", desk.folder], "no such folder"),
]

EVALUATE: list[tuple[Arrange, str]] = [
    (lambda desk: [desk.folder / "no", desk.segmentations("references")], "no such folder"),
    (lambda desk: desk.pair(empty_folder), "no segmentation found"),
    (lambda desk: desk.pair(unlink("case_1.nii.gz")), "no prediction for case_1.nii.gz"),
    (lambda desk: desk.pair(relabel("other.nii.gz", 0, 1)), "no reference for other.nii.gz"),
    (lambda desk: desk.pair(relabel("case_1.nii.gz", 0, 1, 7)), "found label 7"),
    (lambda desk: desk.pair(relabel("case_1.nii.gz", 0, 1)), "shape .* of prediction and reference differ"),
    (lambda desk: desk.pair(relabel("case_1.nii.gz", 0, 1, 2, spacing=2)), "spacing .* differ"),
    (lambda desk: desk.pair(spoil("case_1.nii.gz")), "case_1.nii.gz: not a readable image"),
    (lambda desk: desk.pair(rewrite("case_1.nii.gz", "text")), "case_1.nii.gz: not a readable image"),
    (lambda desk: [*desk.pair(str), "--protocol", "acdc"], "--protocol acdc: unknown"),
    (lambda desk: [*desk.pair(str), "--metrics", "jaccard"], "--metrics jaccard: unknown"),
    (lambda desk: [*desk.pair(str), "--dataset", desk.folder], "no dataset there"),
    (
        lambda desk: [*desk.pair(str), "--csv", desk.text() / "out.csv"],
        "text: .*text is not a folder that can be written to",
    ),
    (lambda desk: [*desk.pair(str), "--csv", desk.folder], "cannot be written .Is a directory"),
    (lambda desk: [*desk.pair(str), "--csv", READ_ONLY / "out.csv"], "/sys.* (cannot be written|can be written to)"),
]

COMPARE: list[tuple[Arrange, str]] = [
    (lambda desk: [desk.segmentations("first")], "a single folder, expected two or more"),
    (lambda desk: [desk.segmentations("first"), desk.folder / "first"], "given twice"),
    (lambda desk: desk.arms(unlink("case_1.nii.gz")), "no segmentation of case_1.nii.gz, which another arm has"),
    (lambda desk: desk.arms(empty_folder), "no segmentation found"),
    (lambda desk: desk.arms(shutil.rmtree), "no such folder"),
    (lambda desk: desk.arms(str)[:2], "summary.json: no such file, which would name the references"),
    (
        lambda desk: [desk.segmentations(name, rewrite("summary.json", '{"metric_per_case": []}')) for name in "ab"],
        "does not name a reference",
    ),
    (lambda desk: [*desk.arms(str), "--level", "5"], "--level 5: expected a probability"),
]

RECORD = {
    "dataset": DATASET,
    "configuration": "3d_fullres",
    "arms": [{"trainer": "nnUNetTrainer", "plans": PLANS}],
    "folds": [0],
    "gpus": 0,
}
RUN = ("903", "3d_fullres", "--plans", PLANS, "--gpus-per-job", "0", "--no-estimate")

CROSSVAL: list[tuple[Arrange, str]] = [
    (lambda desk: ["status", "²"], "no experiment of ² there"),
    (lambda desk: ["status", ""], "no experiment of '' there"),
    (lambda desk: ["status", "/etc"], "no experiment of /etc there"),
    (lambda desk: ["status", "**"], "no experiment of "),
    (lambda desk: ["status", "9" * 5000], "no experiment of "),
    *((lambda desk, text=text: desk.record(text), "experiment.json: ") for text in ("null", "3", "[]", "{}", "{")),
    *(
        (lambda desk, change=change: desk.record(json.dumps(RECORD | change)), "is not the record of an experiment")
        for change in (
            {"arms": None}, {"arms": []}, {"arms": [3]}, {"arms": [{"trainer": "a", "plans": None}]}, {"folds": 3},
            {"folds": ["0"]}, {"folds": [-1]}, {"folds": [10**30]}, {"folds": []}, {"gpus": math.inf}, {"gpus": True},
            {"dataset": ["a"]}, {"dataset": "../.."}, {"configuration": ".."}, {"configuration": "2d"},
        )
    ),
    (lambda desk: [*RUN, "--trainers", "os"], "--trainers os: nnU-Net finds no such trainer"),
    (lambda desk: [*RUN, "--trainers", "nnUNetTrainer/../x"], "nnU-Net finds no such trainer"),
    (lambda desk: [*RUN, "--folds", "0-99999999"], "--folds 0-99999999: expected"),
    (lambda desk: [*RUN, "--folds", "²"], "--folds ²: expected"),
    (lambda desk: ["9" * 5000, *RUN[1:]], "expected one dataset"),
    (lambda desk: ["²", *RUN[1:]], "expected one dataset"),
    (lambda desk: ["Dataset903_Tiny/../Dataset903_Tiny", *RUN[1:]], "expected one dataset"),
    (lambda desk: [*RUN, "--plans", "../nnUNetPlans"], "no such plans"),
]  # fmt: skip

INSPECT: list[tuple[Arrange, str]] = [
    (lambda desk: [desk.folder / "no.pth"], "no such file"),
    (lambda desk: [desk.folder], "a folder, expected a file"),
    (lambda desk: [desk.text("")], "cannot be read as a checkpoint"),
    (lambda desk: [desk.text()], "cannot be read as a checkpoint"),
    (lambda desk: [(cut(file := desk.copy(desk.missu)), file)[1]], "cannot be read as a"),
    (lambda desk: [desk.checkpoint(lambda content: content.update(network_weights=Runs()))], "would run "),
    (lambda desk: [desk.checkpoint(lambda content: content.pop("init_args"))], "expected nnU-Net's checkpoint"),
    (lambda desk: [desk.model("Dataset/plans.json", b"{}")], "found no checkpoint"),
    (lambda desk: [desk.model("../{}.json", b"{}")], "leads out of the archive's folder"),
    (lambda desk: [desk.model("Dataset/install.py", b"")], "not a kind of file that nnU-Net exports"),
    (lambda desk: [desk.model("Dataset/postprocessing.pkl", pickle.dumps(Runs()))], "would run "),
    (lambda desk: [desk.model("Dataset/{}.json", bytes(10**7), count=3)], "would unpack to 30,000,000"),
    (lambda desk: [desk.model("archive/data/{}", bytes(10**6))], "would unpack to 1,000,000, more than 1 times"),
]

WEIGHTS: list[tuple[Arrange, str]] = [
    (lambda desk: ["adapt", desk.stock, desk.folder / "out", "--plans", desk.plans()], "use missu weights from-nnunet"),
    (lambda desk: ["from-nnunet", desk.missu, desk.folder / "out", "--plans", desk.plans()], "use missu weights adapt"),
    (lambda desk: ["adapt", desk.missu, desk.text(), "--plans", desk.plans()], "exists already"),
    (lambda desk: ["adapt", desk.missu, desk.text() / "out", "--plans", desk.plans()], "a file is in its place"),
    (lambda desk: ["adapt", desk.missu, desk.folder / "out", "--plans", desk.text()], "cannot be read as JSON"),
    (lambda desk: ["adapt", desk.folder / "no", desk.folder / "out", "--plans", desk.plans()], "no such file"),
    (
        lambda desk: [
            *("adapt", desk.missu, desk.folder / "out", "--plans"),
            desk.configuration(lambda it: it["architecture"]["arch_kwargs"].update(features_per_stage=[5, 6, 7])),
        ],
        "give a plan whose stages, features and kernels are those",
    ),
    (
        lambda desk: [
            *("adapt", desk.missu, desk.folder / "out", "--plans"),
            desk.configuration(lambda it: it["architecture"]["arch_kwargs"].update(norm_op_kwargs=3)),
        ],
        "norm_op_kwargs: found 3, expected an object",
    ),
    (lambda desk: ["export", desk.missu, desk.folder / "out.pt"], "the suffix is '.pt', expected"),
    (lambda desk: ["export", desk.stock, desk.folder / "out.onnx"], "expected one of MISSU"),
    (lambda desk: ["export", desk.checkpoint(without_plan), desk.folder / "out.onnx"], "patch_size"),
    (
        lambda desk: [
            "export",
            desk.checkpoint(lambda content: content["network_weights"].popitem()),
            desk.folder / "out.onnx",
        ],
        "its weights are not those of its plan's network",
    ),
    (lambda desk: ["export", desk.missu, desk.text() / "out.safetensors"], "a file is in its place"),
    (lambda desk: ["adapt", desk.missu, READ_ONLY / "out", "--plans", desk.plans()], "/sys/out: cannot be written"),
    (lambda desk: ["export", desk.missu, READ_ONLY / "out.onnx"], "/sys/out.onnx: cannot be written"),
]

DEMO: list[tuple[Arrange, str]] = [
    (lambda desk: ["--out", desk.demo(None)], "exists and is not a demo's folder"),
    (lambda desk: ["--out", desk.demo("{")], "is not a demo's state"),
    (lambda desk: ["--out", desk.demo('{"seed": 1, "version": "0", "finished": []}')], "holds the demo of seed 1"),
    (lambda desk: ["--out", desk.text()], "exists and is not a demo's folder"),
    (lambda desk: ["--out", desk.text() / "demo"], "a file is in its place"),
    (lambda desk: ["--out", READ_ONLY / "demo"], "/sys/demo: no such folder, and it cannot be made"),
]

TRANSFORMER = {"embedding_dim": 8, "depth": 1, "num_heads": 1, "mlp_dim": 8, "dropout": 0.0}

CANARY = "canary.Network"
"""In a module that leaves a file when it is imported."""

REFUSED_ARCHIVE = "(refused|cannot be read as a)"
REFUSED_NAME = "refused, because it would run canary.Network, .* add --trust canary"

PREDICT: list[tuple[Arrange, str]] = [
    (lambda desk: desk.trained_model(named(CANARY)), REFUSED_NAME),
    (lambda desk: desk.trained_model(named(CANARY, "conv_op")), REFUSED_NAME),
    (lambda desk: desk.trained_model(put("os", "label_manager")), "refused, because label_manager is os"),
    (
        lambda desk: desk.trained_model(put("np", "overwrite_image_reader_writer"), "dataset.json"),
        "dataset.json: refused, because overwrite_image_reader_writer is np",
    ),
    (lambda desk: desk.trained_model(checkpoint=desk.checkpoint(put(Runs(), "more"))), "would run "),
    (lambda desk: desk.trained_model(checkpoint=desk.checkpoint(in_plans(named(CANARY)))), REFUSED_NAME),
    (lambda desk: desk.trained_model(checkpoint=desk.checkpoint(put(unfolding(list, 60), "more"))), "unfold to"),
    (lambda desk: [*desk.trained_model(), "-f", "../fold_0"], "fold ../fold_0: expected a number"),
    *(
        (lambda desk, change=change: desk.trained_model(in_configuration(change)), expected)
        for change, expected in (
            ({"patch_size": "x"}, "patch_size: found 'x', expected a list"),
            ({"patch_size": [2000] * 3}, "found a patch of 8,000,000,000 voxels"),
            ({"spacing": [0, 1, 1]}, "spacing.0: found 0"),
            ({"use_mask_for_norm": 5}, "use_mask_for_norm: found 5, expected a list"),
        )
    ),
    (lambda desk: desk.trained_model(put([0, 0, 1], "transpose_forward")), "expected 0, 1 and 2 in some order"),
]

BENCHMARK: list[tuple[Arrange, str]] = [
    (
        lambda desk: [
            desk.configuration(lambda it: it["architecture"]["arch_kwargs"].update(norm_op_kwargs={"eps": "x"}))
        ],
        "norm_op_kwargs.eps: found 'x'",
    ),
    (lambda desk: [desk.plans(named(CANARY))], REFUSED_NAME),
    (lambda desk: [desk.plans(named(CANARY, "conv_op"))], REFUSED_NAME),
]

CROSSVAL += [
    (lambda desk: desk.planned(named(CANARY)), REFUSED_NAME),
    (
        lambda desk: desk.planned(lambda plans: plans["configurations"]["3d_fullres"].__delitem__("batch_size")),
        "the key 'batch_size' is missing",
    ),
]

INFO += [
    *(
        (lambda desk, change=change: [desk.plans(in_configuration(change))], expected)
        for change, expected in (
            ({"batch_size": "2"}, "batch_size: found '2', "),
            ({"patch_size": [16, 16]}, "kernel_sizes, expected 2 axes, as patch_size"),
        )
    ),
    *(
        (
            lambda desk, change=change: [
                desk.configuration(lambda it: it["architecture"]["arch_kwargs"].update(change))
            ],
            key,
        )
        for key, change in (
            ("kernel_sizes.0.0: found 3.5", {"kernel_sizes": 3.5}),
            ("strides.1.0: found 0", {"strides": [[1, 1, 1], [0, 2, 2], [2, 2, 2]]}),
            ("transformer.depth: found 1000000000", {"transformer": TRANSFORMER | {"depth": 10**9}}),
            ("transformer.mlp_dim: found 0", {"transformer": TRANSFORMER | {"mlp_dim": 0}}),
            ("transformer: found 5", {"transformer": 5}),
            ("stages_below_transformer: found -1", {"stages_below_transformer": -1}),
            (
                "stages_below_transformer must be one of 0 to ",
                {"transformer": TRANSFORMER, "stages_below_transformer": 9},
            ),
        )
    ),
    *(
        (lambda desk, key=key: [desk.plans(named(CANARY, key))], REFUSED_NAME)
        for key in ("network_class_name", "conv_op")
    ),
    *(
        (lambda desk, name=name: [desk.plans(named(name))], "refused, because it would run")
        for name in ("os.system", "torch.nn.parallel.distributed.os.system", "torch.nn.utils.clip_grad_norm_", 3, [])
    ),
    (lambda desk: [desk.plans(put("os", "label_manager"))], "refused, because label_manager is os"),
    (lambda desk: [desk.plans(put("glob", "image_reader_writer"))], "refused, because image_reader_writer is glob"),
    *((lambda desk, kind=kind: [no_file(desk.folder, kind)], kind.split()[0]) for kind in NO_FILES),
    *((lambda desk, name=name: [name], "") for name in LONG_NAMES),
]

WHERE = (
    ("trainer_name",),
    ("more",),
    ("init_args", "fold"),
    ("init_args", "plans", "plans_name"),
    ("missu", "version"),
    ("network_weights", "more"),
)

INSPECT += [
    *(
        (lambda desk, key=key: [desk.checkpoint(in_plans(named(CANARY, key)))], REFUSED_NAME)
        for key in ("network_class_name", "conv_op")
    ),
    *((lambda desk, keys=keys: [desk.checkpoint(put(itself(list), *keys))], "contains itself") for keys in WHERE),
    *(
        (lambda desk, keys=keys: [desk.checkpoint(put(unfolding(dict, 60), *keys))], "would unfold to")
        for keys in WHERE
    ),
    (lambda desk: [desk.checkpoint(put(unfolding(tuple, 60), "more"))], "would unfold to"),
    (lambda desk: [desk.checkpoint(put(nested(list, 200), "more"))], "deep in each other"),
    *(
        (
            lambda desk, value=value, keys=keys: [desk.checkpoint(put(value, *keys))],
            "expected nnU-Net's checkpoint",
        )
        for value, *keys in (
            (["a"], "trainer_name"),
            ("many", "current_epoch"),
            ([0], "init_args", "fold"),
            (3, "missu"),
        )
    ),
    *((lambda desk, kind=kind: [no_file(desk.folder, kind)], kind.split()[0]) for kind in NO_FILES),
    *((lambda desk, name=name: [name], "") for name in LONG_NAMES),
    *(
        (lambda desk, kind=kind: [desk.file("model.zip", ZIPS[kind]())], "(refused|cannot be read as a)")
        for kind in ZIPS
    ),
]

WEIGHTS += [
    (lambda desk: ["adapt", desk.missu, desk.folder / "out", "--plans", desk.plans(named(CANARY))], REFUSED_NAME),
    (lambda desk: ["from-nnunet", desk.stock, desk.folder / "out", "--plans", desk.plans(named(CANARY))], REFUSED_NAME),
    *(
        (
            lambda desk, suffix=suffix: [
                *("export", desk.checkpoint(in_plans(named(CANARY, "conv_op")))),
                desk.folder / f"out.{suffix}",
            ],
            REFUSED_NAME,
        )
        for suffix in ("safetensors", "onnx")
    ),
    (lambda desk: ["export", no_file(desk.folder, "pipe"), desk.folder / "out.onnx"], "a pipe, device or socket"),
    (lambda desk: ["adapt", desk.missu, "x" * 300, "--plans", desk.plans()], "name too long"),
]

DATASETS += [
    *((lambda desk, kind=kind: ["msd", desk.file("Task07_Tiny.tar", TARS[kind]())], "") for kind in TARS),
    *(
        (
            lambda desk, kind=kind: [
                "verify",
                desk.raw(lambda folder: (folder / "cases.csv").write_bytes(TABLES[kind])),
            ],
            "cases.csv: .*correct it",
        )
        for kind in TABLES
    ),
    *(
        (
            lambda desk, kind=kind: [
                "brats2019",
                desk.brats(lambda case: (case.parents[1] / "name_mapping.csv").write_bytes(TABLES[kind]) and None),
            ],
            "name_mapping.csv: .*unpack the download again",
        )
        for kind in TABLES
    ),
    (
        lambda desk: [
            "verify",
            desk.raw(lambda folder: edit(folder / "dataset.json", put("np", "overwrite_image_reader_writer"))),
        ],
        "dataset.json: refused, because overwrite_image_reader_writer is np",
    ),
    *((lambda desk, name=name: ["verify", name], "") for name in LONG_NAMES),
]

COMMANDS = {
    ("predict",): PREDICT,
    ("benchmark",): BENCHMARK,
    ("info",): INFO,
    ("dataset",): DATASETS,
    ("evaluate",): EVALUATE,
    ("crossval",): CROSSVAL,
    ("compare",): COMPARE,
    ("inspect",): INSPECT,
    ("weights",): WEIGHTS,
    ("demo",): DEMO,
}


def table() -> list[Any]:
    return [
        pytest.param(command, arrange, message, id=f"{command[0]} {number}: {message}")
        for command, cases in COMMANDS.items()
        for number, (arrange, message) in enumerate(cases)
    ]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    errors: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command's entry point in this process, and end it as the interpreter would."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    scripts = {script.name: script for script in entry_points(group="console_scripts")}

    def run_command(name: str, *arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            scripts[name].load()()
        except SystemExit as exit_:
            code = exit_.code
        except Exception as error:
            code = 1
            try:
                sys.excepthook(type(error), error, error.__traceback__)
            except SystemExit as exit_:
                code = exit_.code
        return Ended(code, capfd.readouterr().err)

    return run_command


@pytest.fixture(scope="module")
def checkpoints(nnunet_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One of MISSU, one of stock nnU-Net."""
    from missu_nnunet.training.trainer import MISSUTrainer

    folder = tmp_path_factory.mktemp("checkpoints")
    plans, dataset = tiny_plans(), dataset_json()
    return (
        saved(initialized(MISSUTrainer, plans, dataset), folder / "missu.pth"),
        saved(initialized(nnUNetTrainer, plans, dataset), folder / "stock.pth"),
    )


@pytest.fixture
def desk(checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, *checkpoints, monkeypatch)


def files(*folders: Path) -> dict[Path, int]:
    """Every file with its time of change, but what a conversion keeps for another run: cases in a hidden folder."""
    found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {
        file: file.stat().st_mtime_ns
        for file in found
        if not any(part.startswith(PARTIAL) for part in file.parts[:-1]) and not file.name.endswith(".conversion.csv")
    }


@pytest.fixture
def canary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that exists once a foreign name has been imported."""
    folder = tmp_path_factory.mktemp("canary")
    source = "from pathlib import Path; Path(__file__).with_name('ran').touch()\nclass Network: ..."
    (folder / "canary.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    return folder / "ran"


@pytest.mark.parametrize(("command", "arrange", "message"), table())
def test_one_line_exit_2_nothing_written(
    command: tuple[str, ...],
    arrange: Arrange,
    message: str,
    desk: Desk,
    run: Run,
    nnunet_folders: Path,
    planned: str,
    canary: Path,
) -> None:
    arguments = arrange(desk)
    before = files(desk.folder, nnunet_folders)
    ended = run("missu", *command, *arguments)
    assert ended.code == 2, ended.errors
    assert re.match(rf"missu: .*{message}.*\n\Z", ended.errors), ended.errors
    assert files(desk.folder, nnunet_folders) == before
    assert not canary.exists()


@dataclass(frozen=True)
class Workshop:
    """nnU-Net's three folders with the planned dataset in them, for one test."""

    desk: Desk
    preprocessed: Path
    patch: pytest.MonkeyPatch

    @property
    def fold(self) -> Path:
        """Where the fold's checkpoints are."""
        results = self.desk.folder / "nnUNet_results"
        return results / DATASET / f"{TRAINER}__{PLANS}__3d_fullres" / "fold_0"

    def set(self, name: str, value: object) -> None:
        self.patch.setenv(name, str(value))

    def configuration(self, change: Callable[[Any], Any]) -> None:
        """Change the configuration of the plan."""
        self.plans(lambda plans: change(plans["configurations"]["3d_fullres"]))

    def plans(self, change: Callable[[Any], Any]) -> None:
        edit(self.preprocessed / f"{PLANS}.json", change)

    def splits(self, train: list[str], val: list[str]) -> None:
        (self.preprocessed / "splits_final.json").write_text(json.dumps([{"train": train, "val": val}]))

    def continue_from(self, checkpoint: Path) -> None:
        self.fold.mkdir(parents=True)
        shutil.copy(checkpoint, self.fold / "checkpoint_latest.pth")

    def cut_checkpoint(self) -> None:
        self.continue_from(self.desk.missu)
        cut(self.fold / "checkpoint_latest.pth")


TRAINER = "MISSUTrainer_1epochs_1iters"
TRAIN = ("nnUNetv2_train", 903, "3d_fullres", 0, "-p", PLANS, "-device", "cpu", "-tr", TRAINER)
PLAN = ("nnUNetv2_plan_experiment", "-d", 903, "-pl", "MISSUPlannerCPU")

NNUNET: list[tuple[Callable[[Workshop], Any], Sequence[object], int, str]] = [
    (lambda shop: shop.set("MISSU_SEED", "x"), TRAIN, 2, "MISSU_SEED='x': expected a whole number"),
    (lambda shop: shop.configuration(one_stage), TRAIN, 2, "has a single stage"),
    (lambda shop: shop.configuration(primus), TRAIN, 2, "MISSU follows plans for PlainConvUNet"),
    (lambda shop: shop.continue_from(shop.desk.text()), (*TRAIN, "--c"), 2, "cannot be read as a checkpoint"),
    (lambda shop: shop.cut_checkpoint(), (*TRAIN, "--c"), 2, "cannot be read as a checkpoint"),
    (lambda shop: shop.continue_from(shop.desk.stock), (*TRAIN, "--c"), 2, "checkpoint of nnUNetTrainer, expected one"),
    (lambda shop: shop.continue_from(shop.desk.missu), (*TRAIN, "--c"), 2, "a checkpoint of another plan's network"),
    (lambda shop: shop.splits([], ["case_000"]), TRAIN, 2, "fold 0 has no training case"),
    (lambda shop: shop.splits(["case_000"], []), TRAIN, 2, "fold 0 has no validation case"),
    (lambda shop: None, (*PLAN[:-1], "MISSUPlannerXXL"), 2, "no planner MISSUPlannerXXL, found MISSUPlanner,"),
    # What nnU-Net finds first.
    (
        lambda shop: None,
        (*TRAIN[:-1], "MISSUTrainerWithout"),
        1,
        "Could not find requested nnunet trainer MISSU",
    ),
    (lambda shop: shop.set("nnUNet_results", shop.desk.text()), TRAIN, 1, "NotADirectoryError|FileExistsError"),
    (lambda shop: shop.set("nnUNet_results", READ_ONLY), TRAIN, 1, "PermissionError|Read-only file system"),
    (
        lambda shop: shop.plans(lambda plans: plans.update(dataset_name="Dataset908_Other")),
        TRAIN,
        1,
        "Dataset908_Other",
    ),
    (lambda shop: (shop.preprocessed / f"{PLANS}.json").unlink(), TRAIN, 1, "No such file or directory"),
    (lambda shop: cut(shop.preprocessed / f"{PLANS}.json"), TRAIN, 1, "JSONDecodeError"),
    (lambda shop: None, (*TRAIN, "-pretrained_weights", "no.pth"), 1, "No such file or directory: 'no.pth'"),
    (lambda shop: None, ("nnUNetv2_train", 908, *TRAIN[2:]), 1, "Could not find a dataset with the ID 908"),
    (lambda shop: (shop.preprocessed / "dataset_fingerprint.json").unlink(), PLAN, 1, "Fingerprint missing"),
]


@pytest.fixture
def workshop(desk: Desk, planned: str, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    source = Path(os.environ["nnUNet_preprocessed"]) / planned
    preprocessed = desk.folder / "nnUNet_preprocessed" / planned
    preprocessed.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            (preprocessed / entry.name).symlink_to(entry)
        else:
            shutil.copy(entry, preprocessed)
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(desk.folder / name))
    return Workshop(desk, preprocessed, monkeypatch)


@pytest.mark.parametrize(("arrange", "command", "code", "message"), NNUNET)
def test_nnunets_commands_end_as_clearly(
    arrange: Callable[[Workshop], Any], command: Sequence[object], code: int, message: str, workshop: Workshop, run: Run
) -> None:
    arrange(workshop)
    before = files(workshop.desk.folder)
    ended = run(*command)
    assert ended.code == code, ended.errors
    if code == 2:
        assert re.fullmatch(rf"missu: .*{message}.*", ended.errors.splitlines()[-1]), ended.errors
        assert "Traceback" not in ended.errors
    assert re.search(message, ended.errors), ended.errors
    written = files(workshop.desk.folder).keys() - before.keys()
    assert not [file for file in written if file.suffix == ".pth" or file.name.startswith(PARTIAL)]


def test_a_disk_that_fills_up_in_training_keeps_the_checkpoint_before(workshop: Workshop, run: Run) -> None:
    workshop.fold.mkdir(parents=True)
    checkpoint = workshop.fold / "checkpoint_best.pth"
    shutil.copy(workshop.desk.missu, checkpoint)
    before = checkpoint.read_bytes()
    with largest_file(100_000):
        ended = run(*TRAIN)
    assert ended.code == 2, ended.errors
    assert ended.errors.splitlines()[-1].startswith(
        f"missu: {workshop.fold / 'checkpoint_best.pth'}: cannot be written"
    )
    assert checkpoint.read_bytes() == before
    assert not list(workshop.fold.glob(f"{PARTIAL}*"))


def test_a_disk_that_fills_up_in_export_leaves_nothing(desk: Desk, run: Run) -> None:
    for suffix in ("safetensors", "onnx"):
        with largest_file(desk.missu.stat().st_size // 20):
            ended = run("missu", "weights", "export", desk.missu, desk.folder / f"out.{suffix}")
        assert ended.code == 2, ended.errors
        assert ended.errors.splitlines()[-1].startswith("missu: ")
        assert list(desk.folder.iterdir()) == []


@pytest.mark.parametrize(("variable", "value"), [("nnUNet_results", None), ("nnUNet_preprocessed", "/no/such/folder")])
def test_doctor_names_what_keeps_a_training_from_starting(
    variable: str, value: str | None, run: Run, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value:
        monkeypatch.setenv(variable, value)
    else:
        monkeypatch.delenv(variable)
    ended = run("missu", "doctor")
    assert (ended.code, ended.errors) == (2, "")

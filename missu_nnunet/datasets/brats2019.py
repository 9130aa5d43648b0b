"""BraTS 2019: converts the organisers' folders to nnU-Net's format and, for a submission, back.

The organisers' labels are 1 (necrotic and non-enhancing core), 2 (oedema) and 4 (enhancing tumour). nnU-Net needs
consecutive labels, and its region training needs them ordered from the outside in: oedema 1, core 2, enhancing 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from missu_nnunet.datasets.conversion import Conversion, PlannedFolder, copy_nifti, files_below, leftovers
from missu_nnunet.datasets.images import grid_difference, read_header, read_label_map, refuse_unknown_labels
from missu_nnunet.datasets.splits import stratified_splits
from missu_nnunet.errors import InputError
from missu_nnunet.files import read_table
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.splits import SPLITS_FILE

DATASET_ID = 43
"""The dataset's ID in nnU-Net, unless the user gives another."""

CHANNELS = ("t1", "t1ce", "t2", "flair")
GRADES = ("HGG", "LGG")
_TABLES = ("name_mapping", "survival_")  # how the names of the organisers' tables begin
TO_NNUNET = {0: 0, 2: 1, 1: 2, 4: 3}
TO_BRATS = {ours: theirs for theirs, ours in TO_NNUNET.items()}


def plan_brats2019(source: Path, dataset_id: int, validation: Path | None = None, link: bool = False) -> PlannedFolder:
    """Plan the dataset: four channels per case, the regions WT, TC and ET, and splits that are stratified by grade.

    Args:
        source: the training folder, which holds ``HGG`` and ``LGG``, or its parent.
        dataset_id: the dataset's ID in nnU-Net, 1 to 999.
        validation: the validation folder, which holds the cases, or its parent; its cases go to ``imagesTs``.
        link: whether images that need no conversion are linked instead of copied.

    Raises:
        InputError: if there is no case in ``HGG`` or ``LGG``, or in the validation folder.
    """
    root = _below(source, "MICCAI_BraTS_2019_Data_Training")
    files = files_below(root)
    conversions: list[Conversion] = []
    errors: dict[Path, str] = {}
    rows: dict[str, dict[str, str]] = {}
    grades: dict[str, str] = {}
    for grade in GRADES:
        for folder in _case_folders(root / grade):
            _plan_case(folder, "Tr", link, conversions, errors)
            grades[folder.name] = grade
            rows[folder.name] = {"case": folder.name, "patient": folder.name, "set": "training", "grade": grade}
    if not grades:
        raise InputError(f"{root}: found no cases in HGG or LGG, expected HGG/<ID>/<ID>_flair.nii.gz and so on")
    if validation:
        validation = _below(validation, "MICCAI_BraTS_2019_Data_Validation")
        files += files_below(validation)
        cases = _case_folders(validation)
        if not cases:
            raise InputError(f"{validation}: found no cases, expected <ID>/<ID>_flair.nii.gz and so on")
        for folder in cases:
            _plan_case(folder, "Ts", link, conversions, errors)
            rows[folder.name] = {"case": folder.name, "patient": folder.name, "set": "validation", "grade": ""}
    tables = [file for file in files if file.suffix == ".csv" and file.name.startswith(_TABLES)]
    documents: dict[str, object] = {
        DATASET_FILE: {
            "channel_names": {str(index): channel for index, channel in enumerate(CHANNELS)},
            "labels": {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3},
            "regions_class_order": [1, 2, 3],
            "numTraining": len(grades),
            "file_ending": ".nii.gz",
            "name": "BraTS2019",
            "reference": "https://www.med.upenn.edu/cbica/brats2019/data.html",
            "licence": "the BraTS 2019 data usage agreement",
        }
    }
    if folds := stratified_splits(grades, {case: [case] for case in grades}):
        documents[SPLITS_FILE] = folds
    skipped = leftovers(
        files, conversions, lambda _: "not one of <ID>_{flair,t1,t1ce,t2,seg}.nii.gz, or there twice", errors
    )
    return PlannedFolder(
        name=f"Dataset{dataset_id:03d}_BraTS2019",
        conversions=tuple(conversions),
        skipped=skipped | {table: "its rows are in cases.csv" for table in tables},
        errors=errors,
        documents=documents,
        tables={"cases.csv": _join(list(rows.values()), tables)},
    )


def plan_submission(predictions: Path, name: str) -> PlannedFolder:
    """Plan a folder of predictions with the organisers' labels 1, 2 and 4.

    Args:
        predictions: folder of nnU-Net's predictions.
        name: name of the folder to make.

    Raises:
        InputError: if there is no prediction.
    """
    files = files_below(predictions)
    conversions = tuple(
        Conversion(file.name, (file,), (_case_id(file) + ".nii.gz",), partial(_submit, file))
        for file in files
        if file.parent == predictions and file.name.endswith((".nii.gz", ".nii")) and not file.name.startswith(".")
    )
    if not conversions:
        raise InputError(f"{predictions}: found no .nii.gz file, expected nnU-Net's predictions")
    return PlannedFolder(
        name, conversions, leftovers(files, conversions, lambda _: "not a prediction"), is_submission=True
    )


def _below(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _case_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _case_id(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".nii")


def _plan_case(folder: Path, where: str, link: bool, conversions: list[Conversion], errors: dict[Path, str]) -> None:
    """Add the conversion of one case, or the error that prevents it."""
    case = folder.name
    if twin := next((other for other in conversions if other.case == case), None):
        errors[folder] = (
            f"{folder}: a case of this name is in {twin.sources[0].parent} too, expected each case once: remove one of "
            "them"
        )
        return
    wanted = (*CHANNELS, "seg") if where == "Tr" else CHANNELS
    found: list[Path | None] = []
    for modality in wanted:
        candidates = [folder / f"{case}_{modality}{ending}" for ending in (".nii.gz", ".nii")]
        found += [path for path in candidates if path.is_file()][:1] or [None]
    if missing := [modality for modality, path in zip(wanted, found, strict=True) if path is None]:
        errors[folder] = (
            f"{folder}: no {' and no '.join(missing)} image, expected {case}_{missing[0]}.nii.gz or .nii: download the "
            "case again"
        )
        return
    sources = tuple(path for path in found if path)
    targets = [f"images{where}/{case}_{channel:04d}.nii.gz" for channel in range(len(CHANNELS))]
    if where == "Tr":
        targets.append(f"labelsTr/{case}.nii.gz")
    conversions.append(Conversion(case, sources, tuple(targets), partial(_convert, sources, link=link), link))


def _convert(sources: tuple[Path, ...], targets: Sequence[Path], link: bool) -> None:
    header = read_header(sources[0])
    for source in sources[1:]:
        if difference := grid_difference(header, read_header(source)):
            raise InputError(
                f"{source}: {difference} of {sources[0].name} and this image differ; BraTS's modalities are "
                "co-registered: download the case again"
            )
    for source, target in zip(sources[: len(CHANNELS)], targets, strict=False):
        copy_nifti(source, target, link)
    for source, target in zip(sources[len(CHANNELS) :], targets[len(CHANNELS) :], strict=True):
        _write_relabelled(source, target, TO_NNUNET)


def _submit(source: Path, targets: Sequence[Path]) -> None:
    _write_relabelled(source, targets[0], TO_BRATS)


def _write_relabelled(source: Path, target: Path, mapping: dict[int, int]) -> None:
    image = read_label_map(source)
    labels = sitk.GetArrayFromImage(image)
    refuse_unknown_labels(source, labels, mapping, "give a segmentation in these labels")
    relabelled = np.zeros(labels.shape, np.uint8)
    for old, new in mapping.items():
        relabelled[labels == old] = new
    result = sitk.GetImageFromArray(relabelled)
    result.CopyInformation(image)
    sitk.WriteImage(result, str(target), True)


def _join(rows: list[dict[str, str]], tables: list[Path]) -> list[dict[str, str]]:
    """The rows, and what the organisers' tables (name mapping, survival) say of each case."""
    facts: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for table in tables:
        for record in read_table(table, "unpack the download again"):
            case = record.pop("BraTS_2019_subject_ID", None) or record.pop("BraTS19ID", None)
            if case:
                record.pop("Grade", None)  # the folder says it, for every case
                facts.setdefault(case, {}).update(record)
                columns |= dict.fromkeys(record)
    return [row | {column: facts.get(row["case"], {}).get(column, "") for column in columns} for row in rows]

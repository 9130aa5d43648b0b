"""CHAOS: converts DICOM slices and PNG masks to nnU-Net's volumes and, for a submission, back to PNG.

Three things are easily taken wrong, and follow from the headers here:

* A mask belongs to the slice that has the same place in the order of file names. CT files are numbered by descending z,
  MR files by ascending z. Volumes are therefore stacked by each slice's ``ImagePositionPatient``, and masks with them.
* The distance between slices is that of their positions, not ``SliceThickness`` (3.2 mm where the step is 2.0 mm).
* Both phases of T1-DUAL have the same series UID; their folders tell them apart, and file numbers pair them.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from missu_nnunet.datasets.conversion import Conversion, PlannedFolder, files_below, leftovers
from missu_nnunet.datasets.dicom_series import Series, file_order, on_grid, read_series, read_volume
from missu_nnunet.datasets.images import grid_difference, read_label_map, refuse_unknown_labels
from missu_nnunet.datasets.splits import stratified_splits
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.splits import SPLITS_FILE

ORGANS = {"liver": (55, 70), "right kidney": (110, 135), "left kidney": (175, 200), "spleen": (240, 255)}
"""The lowest and the highest grey value of each organ in the MR masks, in the order of our labels 1 to 4."""

SUBMITTED = (63, 126, 189, 252)
"""The grey value of each organ in an MR submission."""

SUBMITTED_CT = 255
"""The grey value of the liver in a CT submission. The organisers' CT masks have one bit, which 8-bit readers see as
255; their evaluation counts every value but 0."""

PHASES = ("InPhase", "OutPhase")
UNKNOWN = 255


@dataclass(frozen=True)
class Variant:
    """The contents of one of the challenge's tasks, or of one modality by itself.

    Attributes:
        dataset_id: the dataset's ID in nnU-Net, unless the user gives another.
        name: name of the dataset.
        sequences: its sequences, some of ``CT``, ``T1DUAL`` and ``T2SPIR``.
        organs: number of organs that are labels, the first ones of ``ORGANS``.
        channels: names of the channels in ``dataset.json``; with "CT", nnU-Net normalises Hounsfield units.
        phases_apart: whether the two phases of T1-DUAL are cases of their own. nnU-Net needs the same channels in every
            case, and the other sequences have one.
    """

    dataset_id: int
    name: str
    sequences: tuple[str, ...]
    organs: int
    channels: tuple[str, ...]
    phases_apart: bool = False


TASKS = {
    1: Variant(51, "CHAOSTask1", ("CT", "T1DUAL", "T2SPIR"), 1, ("CT or MR",), phases_apart=True),
    2: Variant(52, "CHAOSTask2", ("CT",), 1, ("CT",)),
    3: Variant(53, "CHAOSTask3", ("T1DUAL", "T2SPIR"), 1, ("MR",), phases_apart=True),
    4: Variant(54, "CHAOSTask4", ("CT", "T1DUAL", "T2SPIR"), 4, ("CT or MR",), phases_apart=True),
    5: Variant(55, "CHAOSTask5", ("T1DUAL", "T2SPIR"), 4, ("MR",), phases_apart=True),
}
MODALITIES = {
    "ct": Variant(56, "CHAOSCT", ("CT",), 1, ("CT",)),
    "t1dual": Variant(57, "CHAOST1DUAL", ("T1DUAL",), 4, ("T1 in-phase", "T1 out-phase")),
    "t2spir": Variant(58, "CHAOST2SPIR", ("T2SPIR",), 4, ("T2-SPIR",)),
}


def read_masks(files: Sequence[Path], series: Series, modality: str, organs: int) -> sitk.Image:
    """Read the labels of a series: 1 liver, 2 right kidney, 3 left kidney, 4 spleen.

    Args:
        files: the PNG masks; sorted by name, they belong to the slices sorted by name.
        series: the slices.
        modality: "CT", where every value but 0 is liver, or "MR", where ``ORGANS`` gives the values.
        organs: number of organs, 1 to 4, that become labels; the others become background.

    Raises:
        InputError: if the number of masks, their size or their values are not what they should be.
    """
    files = sorted(files, key=file_order)
    _refuse_other_count(series.files[0].parent, files, series.files)
    columns, rows, _ = series.grid.GetSize()
    label_of = np.array([_label(grey, modality) for grey in range(256)])
    labels = np.zeros((len(files), rows, columns), np.uint8)
    for place, index in enumerate(series.order):
        grey = _read_grey(files[index], (rows, columns))
        if unknown := sorted(set(grey[label_of[grey] == UNKNOWN].tolist())):
            raise InputError(
                f"{files[index]}: grey value {unknown[0]}, expected 0 or one of the organs' "
                f"({', '.join(f'{organ} {low}–{high}' for organ, (low, high) in ORGANS.items())})"
            )
        labels[place] = label_of[grey]
    labels[labels > organs] = 0
    return on_grid(labels, series)


def plan_chaos(source: Path, variant: Variant, dataset_id: int) -> PlannedFolder:
    """Plan the dataset of a task or a modality.

    Args:
        source: the folder that holds ``Train_Sets`` and ``Test_Sets``, or one of these.
        variant: one of ``TASKS`` or ``MODALITIES``.
        dataset_id: the dataset's ID in nnU-Net, 1 to 999.

    Raises:
        InputError: if there is no training set.
    """
    training, test = _set_folder(source, "Train_Sets"), _set_folder(source, "Test_Sets")
    if training is None:
        raise InputError(f"{source}: found no Train_Sets, expected the folder that the organisers' archives unpack to")
    conversions: list[Conversion] = []
    errors: dict[Path, str] = {}
    rows: list[dict[str, str]] = []
    for folder, where in [(training, "Tr")] + ([(test, "Ts")] if test else []):
        for scan in _scans(folder, variant.sequences):
            try:
                conversions.append(_plan_scan(scan, where, variant))
            except InputError as error:
                errors[scan.folder] = str(error)
            rows += [
                {
                    "case": case,
                    "patient": scan.patient,
                    "set": "training" if where == "Tr" else "test",
                    "modality": case.removeprefix(scan.patient + "_") if scan.modality == "MR" else "CT",
                }
                for case in scan.cases(variant.phases_apart)
            ]
    trained = [row for row in rows if row["set"] == "training"]
    if not trained:
        raise InputError(
            f"{training}: found no {' or '.join(variant.sequences)} scan, expected CT/<id>/DICOM_anon or "
            "MR/<id>/{T1DUAL,T2SPIR}/DICOM_anon"
        )
    cases: dict[str, list[str]] = {}
    for row in trained:
        cases.setdefault(row["patient"], []).append(row["case"])
    organs = list(ORGANS)[: variant.organs]
    documents: dict[str, Any] = {
        DATASET_FILE: {
            "channel_names": {str(index): channel for index, channel in enumerate(variant.channels)},
            "labels": {"background": 0} | {organ: label for label, organ in enumerate(organs, start=1)},
            "numTraining": len(trained),
            "file_ending": ".nii.gz",
            "name": variant.name,
            "reference": "https://doi.org/10.5281/zenodo.3431873",
            "licence": "CC BY-NC-SA 4.0",
        }
    }
    # The scans of one patient stay in one fold, and every fold has its share of CT and MR.
    if folds := stratified_splits({patient: patient[:2] for patient in cases}, cases):
        documents[SPLITS_FILE] = folds
    files = files_below(training) + (files_below(test) if test else [])
    return PlannedFolder(
        name=f"Dataset{dataset_id:03d}_{variant.name}",
        conversions=tuple(conversions),
        skipped=leftovers(files, conversions, partial(_reason, sequences=variant.sequences), errors),
        errors=errors,
        documents=documents,
        tables={"cases.csv": rows},
    )


def plan_submission(predictions: Path, source: Path, name: str) -> PlannedFolder:
    """Plan a submission: PNG stacks in ``CT/<id>/Results`` and ``MR/<id>/<sequence>/Results``, as the organisers ask.

    The slices are called ``img000.png`` and so on, in the order of the DICOM files' names. Where the two phases of
    T1-DUAL are cases of their own, the in-phase prediction is taken: the organisers drew their masks on that phase.

    Args:
        predictions: nnU-Net's predictions, named as ``plan_chaos`` names cases.
        source: the folder that holds ``Test_Sets`` (or ``Train_Sets``) with the DICOM slices.
        name: name of the folder to make.

    Raises:
        InputError: if there is no prediction, or its scan is not in ``source``.
    """
    scans: dict[str, _Scan] = {}
    for folder in (_set_folder(source, "Train_Sets"), _set_folder(source, "Test_Sets")):
        for scan in _scans(folder, ("CT", "T1DUAL", "T2SPIR")) if folder else ():
            scans[scan.name] = scan
    files = files_below(predictions)
    conversions = []
    for file in files:
        case = file.name.removesuffix(".nii.gz")
        if case == file.name or file.parent != predictions or case.startswith("."):
            continue
        if case.endswith("_OutPhase"):
            continue
        name_of_scan = case.removesuffix("_InPhase")
        if name_of_scan not in scans:
            found = ", ".join(list(scans)[:3]) or "none"
            raise InputError(
                f"{file}: found no scan of this name in {source} (there: {found} …), give its --dicom folder"
            )
        scan = scans[name_of_scan]
        slices = scan.slices()
        path = "/".join((*scan.folder.parts[-1 if scan.sequence == "CT" else -2 :], "Results"))
        targets = tuple(f"{scan.modality}/{path}/img{index:03d}.png" for index in range(len(slices)))
        conversions.append(Conversion(case, (file,), targets, partial(_write_masks, file, slices, scan.modality)))
    if not conversions:
        raise InputError(
            f"{predictions}: found no predictions, expected files such as CT_01.nii.gz or MR_01_T2SPIR.nii.gz"
        )
    skipped = leftovers(
        files,
        conversions,
        lambda file: "the in-phase prediction is submitted" if "_OutPhase.nii" in file.name else "not a prediction",
    )
    return PlannedFolder(name, tuple(conversions), skipped, is_submission=True)


@dataclass(frozen=True)
class _Scan:
    """One sequence of one patient: ``folder`` holds DICOM_anon and, in the training set, Ground."""

    modality: str
    number: int
    sequence: str
    folder: Path

    @property
    def patient(self) -> str:
        return f"{self.modality}_{self.number:02d}"

    @property
    def name(self) -> str:
        return self.patient if self.sequence == "CT" else f"{self.patient}_{self.sequence}"

    def cases(self, phases_apart: bool) -> list[str]:
        if self.sequence == "T1DUAL" and phases_apart:
            return [f"{self.name}_{phase}" for phase in PHASES]
        return [self.name]

    def slices(self) -> tuple[Path, ...]:
        """The slices that the masks belong to, in the order of their names."""
        folder = self.folder / "DICOM_anon"
        return _files(folder / "InPhase" if self.sequence == "T1DUAL" else folder, ".dcm")


def _files(folder: Path, suffix: str) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    found = (file for file in folder.iterdir() if file.suffix.lower() == suffix and not file.name.startswith("."))
    return tuple(sorted(found, key=file_order))


def _set_folder(source: Path, name: str) -> Path | None:
    """The set's folder: ``source``, or in it, or a level below (archives unpack to CHAOS_Train_Sets/Train_Sets)."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; give the folder that the download was unpacked to")
    candidates = [source] if source.resolve().name == name else [source / name, *sorted(source.glob(f"*/{name}"))]
    return next((folder for folder in candidates if folder.is_dir()), None)


def _scans(folder: Path, sequences: tuple[str, ...]) -> Iterator[_Scan]:
    for modality in ("CT", "MR"):
        patients = [path for path in (folder / modality).glob("*") if path.is_dir() and path.name.isdecimal()]
        for patient in sorted(patients, key=file_order):
            for sequence in sequences:
                if (sequence == "CT") == (modality == "CT"):
                    where = patient if modality == "CT" else patient / sequence
                    yield _Scan(modality, int(patient.name), sequence, where)


def _plan_scan(scan: _Scan, where: str, variant: Variant) -> Conversion:
    """The conversion of a scan.

    Raises:
        InputError: if files are missing.
    """
    slices = scan.slices()
    if not slices:
        raise InputError(f"{scan.folder}: no DICOM slices in DICOM_anon, expected *.dcm: unpack the download again")
    phases = [slices]
    if scan.sequence == "T1DUAL":
        phases.append(_out_phase(scan.folder, slices))
    masks: tuple[Path, ...] = ()
    if where == "Tr":
        masks = _files(scan.folder / "Ground", ".png")
        _refuse_other_count(scan.folder / "Ground", masks, slices)
        if scan.sequence == "T1DUAL" and [mask.stem for mask in masks] != [file.stem for file in slices]:
            odd = next(mask for mask, file in zip(masks, slices, strict=True) if mask.stem != file.stem)
            raise InputError(f"{odd}: no slice {odd.stem}.dcm, expected masks to be named as their in-phase slices")
    cases = scan.cases(variant.phases_apart)
    if len(cases) == 1:
        images = [f"images{where}/{cases[0]}_{channel:04d}.nii.gz" for channel in range(len(phases))]
    else:
        images = [f"images{where}/{case}_0000.nii.gz" for case in cases]
    labels = [f"labels{where}/{case}.nii.gz" for case in cases] if masks else []
    return Conversion(
        case=scan.name,
        sources=(*(file for phase in phases for file in phase), *masks),
        targets=(*images, *labels),
        convert=partial(_convert, phases, masks, scan.modality, variant.organs),
    )


def _out_phase(folder: Path, in_phase: tuple[Path, ...]) -> tuple[Path, ...]:
    """The out-phase slices, each numbered one less than its in-phase slice."""
    found = {file.name: file for file in _files(folder / "DICOM_anon" / "OutPhase", ".dcm")}
    paired = []
    for file in in_phase:
        match = re.fullmatch(r"(.*?)(\d+)", file.stem)
        name = f"{match[1]}{int(match[2]) - 1:0{len(match[2])}d}{file.suffix}" if match else file.name
        if name not in found:
            raise InputError(
                f"{file}: no {name} in OutPhase, expected the out-phase slice there: unpack the download again"
            )
        paired.append(found.pop(name))
    if found:
        odd = next(iter(found.values()))
        raise InputError(f"{odd}: no slice of the next number in InPhase, expected one: unpack the download again")
    return tuple(paired)


def _convert(
    phases: list[tuple[Path, ...]], masks: tuple[Path, ...], modality: str, organs: int, targets: Sequence[Path]
) -> None:
    series = [read_series(files) for files in phases]
    for other in series[1:]:
        if difference := grid_difference(series[0].grid, other.grid):
            raise InputError(
                f"{other.files[0].parent}: {difference} of in-phase and out-phase differ, expected one grid"
            )
    for one, target in zip(series, targets, strict=False):
        sitk.WriteImage(read_volume(one), str(target), True)
    for target in targets[len(series) :]:
        sitk.WriteImage(read_masks(masks, series[0], modality, organs), str(target), True)


def _write_masks(prediction: Path, slices: tuple[Path, ...], modality: str, targets: Sequence[Path]) -> None:
    series = read_series(slices)
    image = read_label_map(prediction)
    if difference := grid_difference(image, series.grid):
        raise InputError(
            f"{prediction}: {difference} of the prediction and {slices[0].parent} differ; wrong --dicom folder?"
        )
    labels = sitk.GetArrayFromImage(image)
    refuse_unknown_labels(prediction, labels, range(len(ORGANS) + 1), "give a segmentation of CHAOS")
    grey = np.array([0, SUBMITTED_CT, 0, 0, 0] if modality == "CT" else [0, *SUBMITTED], np.uint8)
    for place, index in enumerate(series.order):
        Image.fromarray(grey[labels[place].astype(int)]).save(targets[index], format="PNG")


def _refuse_other_count(folder: Path, masks: Sequence[Path], slices: Sequence[Path]) -> None:
    if len(masks) != len(slices):
        raise InputError(
            f"{folder}: {len(masks)} PNG masks for {len(slices)} DICOM slices, expected one each: unpack the "
            "download again"
        )


def _label(grey: int, modality: str) -> int:
    if modality == "CT":
        return int(grey > 0)
    if grey == 0:
        return 0
    return next((label for label, (low, high) in enumerate(ORGANS.values(), 1) if low <= grey <= high), UNKNOWN)


_GREY_MODES = ("1", "L", "P", "LA", "RGB", "RGBA")  # PIL cuts off the values of the others at 255


def _read_grey(file: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A PNG's values, (rows, columns); 1-bit ones become 0 and 255."""
    rows, columns = shape
    try:
        with Image.open(file, formats=["PNG"]) as image:  # PIL has Ghostscript run PostScript
            if image.mode not in _GREY_MODES:
                raise ValueError(f"mode {image.mode}, expected 8 bits per value")
            if image.size == (columns, rows):
                return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: not a readable PNG ({error}): unpack the download again") from error
    raise InputError(f"{file}: {image.size[0]}×{image.size[1]} pixels, expected {columns}×{rows} as its slice has")


def _reason(file: Path, sequences: tuple[str, ...]) -> str:
    sequence = next((name for name in ("T1DUAL", "T2SPIR", "CT") if name in file.parts), None)
    return "not a slice or a mask" if sequence in (None, *sequences) else f"{sequence} is not part of this dataset"

"""Finds faults in a raw dataset that nnU-Net's integrity check does not see, and that cost a day later.

nnU-Net takes voxels in the file's order: it does not check that images are oriented alike, only warns of labels whose
headers put them elsewhere, and knows nothing of patients.
"""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy.ndimage import center_of_mass

from missu_nnunet.datasets.headers import is_nifti, nifti_disagreement
from missu_nnunet.datasets.images import FILE_ENDINGS, Grid, grid_difference, read_header, read_image, read_voxels
from missu_nnunet.datasets.readers import (
    IMAGE_ENDINGS,
    find_reader,
    hint_at_slices,
    read_channels,
    read_labels,
    read_values,
    reorients,
)
from missu_nnunet.datasets.splits import read_patients, splits_of
from missu_nnunet.errors import InputError
from missu_nnunet.files import whole_file
from missu_nnunet.nnunet.dataset import (
    LOST_ENDING,
    RawDataset,
    read_description,
    stray_labels,
    test_set,
    training_cases,
)
from missu_nnunet.nnunet.splits import Splits
from missu_nnunet.parallel import map_cases
from missu_nnunet.pictures.dataset_cases import DatasetCase, save_dataset_cases
from missu_nnunet.pictures.orientation import orientation_code
from missu_nnunet.text import first_line

_PICTURES_PER_FINDING = 5


@dataclass(frozen=True)
class Finding:
    """A finding of one check.

    Attributes:
        level: "error" for what is certainly wrong, "warning" for what may be intended, "note" for information.
        check: name of the check.
        cases: the cases concerned.
        message: what was found, and the remedy.
        visible: whether a picture of the case can show it.
    """

    level: Literal["error", "warning", "note"]
    check: str
    cases: tuple[str, ...]
    message: str
    visible: bool = False


@dataclass(frozen=True)
class _Facts:
    """What was read of one case."""

    findings: tuple[Finding, ...]
    dimensions: int | None = None
    orientation: str | None = None
    hashes: tuple[str, ...] = ()
    labels: frozenset[int] = frozenset()
    sides: Mapping[int, float] = field(default_factory=dict)
    """label → how far its centre lies to the patient's left of the image's centre (mm)"""


def verify(dataset: RawDataset, patient_pattern: str | None = None, workers: int = 1) -> list[Finding]:
    """Check a raw dataset.

    Args:
        dataset: the raw dataset to check.
        patient_pattern: a regular expression whose first group finds the patient in a case's name, see
            ``splits.read_patients``.
        workers: number of processes.

    Raises:
        InputError: if the dataset has no cases, or its splits or patients cannot be read.
    """
    stray = stray_labels(dataset)
    training = {case: files for case, files in training_cases(dataset).items() if case not in stray}
    # A name may stand in both.
    test = {f"imagesTs/{case}" if case in training else case: files for case, files in test_set(dataset).items()}
    if not training:
        raise InputError(f"{dataset.folder}: found no training case, expected imagesTr/CASE_0000{dataset.file_ending}")
    reader = _reader(dataset, [images[0] for images, _ in training.values()])
    jobs = [_Job(case, images, label, dataset, reader) for case, (images, label) in training.items()]
    jobs += [_Job(case, images, None, dataset, reader) for case, images in test.items()]
    facts = {}
    for job, result in zip(jobs, map_cases(_read_case, jobs, workers, "verifying"), strict=True):
        facts[job.case] = (
            result if isinstance(result, _Facts) else _Facts((Finding("error", "files", (job.case,), str(result)),))
        )
    folds = splits_of(dataset, list(training))
    patients = read_patients(dataset, list(training), patient_pattern)
    unlabelled = [case for case in training if facts[case].labels == {dataset.ignore}]
    return [
        *_merge(finding for one in facts.values() for finding in one.findings),
        *_uncounted(dataset),
        *_hidden(dataset),
        *_stray(stray),
        *_lost(training),
        *_declared(dataset, len(training)),
        *_label_values(dataset, facts, list(training)),
        *_empty(facts, [case for case in training if facts[case].labels and case not in unlabelled], dataset.ignore),
        *_dimensions(facts),
        *_orientations(facts),
        *_mirrored(facts),
        *_duplicates(facts, folds, set(test)),
        *_unlabelled(unlabelled, list(training), folds),
        *_splits(folds, [case for case in training if case not in unlabelled], set(training), patients),
        *_absent_classes(dataset, facts, folds),
    ]


def save_pictures(dataset: RawDataset, findings: Sequence[Finding], folder: Path) -> list[Path]:
    """Save a picture of the first cases with a visible finding, each above a case without findings.

    Images are drawn as nnU-Net sees them, which does not reorient them; the letters at the sides are those of their own
    headers (``missu_nnunet.pictures.dataset_cases.save_dataset_cases``).

    Args:
        dataset: the raw dataset.
        findings: what ``verify`` found.
        folder: folder for the pictures.

    Returns:
        The pictures written.
    """
    training, test = training_cases(dataset), test_set(dataset)
    titles: dict[str, list[str]] = {}
    for finding in findings:
        for case in finding.cases[:_PICTURES_PER_FINDING] if finding.visible else ():
            titles.setdefault(case, []).append(f"{finding.check}: {finding.message}")
    suspicious = {case for finding in findings for case in finding.cases}
    typical = next((case for case in training if case not in suspicious), None)
    pictures = []
    for case, title in titles.items():
        drawn = []
        for name in filter(None, (case, typical)):
            images, label = training.get(name, (test.get(name, []), None))
            # A picture shows slices or volumes, not channels in a fourth dimension.
            if images and images[0].is_file() and read_header(images[0]).GetDimension() < 4:
                drawn.append(_case_to_draw(dataset, name, images[0], label if label and label.is_file() else None))
        if drawn and drawn[0].name == case:
            pictures.append(folder / f"{case}.png")
            with whole_file(pictures[-1]) as partial:
                save_dataset_cases(drawn, dataset.regions, "\n".join(title), partial)
    return pictures


@dataclass(frozen=True)
class _Job:
    case: str
    images: list[Path]
    label: Path | None
    dataset: RawDataset
    reader: BaseReaderWriter


def _read_case(job: _Job) -> _Facts:
    findings: list[Finding] = []

    def find(level: Literal["error", "warning"], check: str, message: str, visible: bool = True) -> None:
        findings.append(Finding(level, check, (job.case,), message, visible))

    label = job.label if job.label and job.label.is_file() else None
    if label != job.label:
        find(
            "error",
            "files",
            "an image without a label map, at which nnU-Net's preprocessing stops: add the label map, or move the "
            "image elsewhere; missu dataset unlabelled adds such images",
            visible=False,
        )
    hashes = []
    for number, path in enumerate(job.images):
        values = read_values(job.reader, path)
        where = f"channel {number}" if len(job.images) > 1 else "the image"
        if not np.isfinite(values).all():
            find(
                "error",
                "values",
                f"{where} holds NaN or infinite values, which nnU-Net reads as 0 or as they are: replace them",
            )
        elif values.min() == values.max():
            find("error", "values", f"{where} is constant: nothing to learn from; export it again")
        else:
            content = np.ascontiguousarray(values, np.float32)
            hashes.append(hashlib.sha1(f"{content.shape}".encode() + content.tobytes()).hexdigest())
    for path in filter(is_nifti, (*job.images, *([label] if label else []))):
        if difference := nifti_disagreement(path):
            find("warning", "header", f"{difference}: programs differ on where its voxels lie; correct the header")
    image, properties = read_channels(job.reader, job.images)
    names = job.dataset.channels
    if len(image) != len(names):
        find(
            "error",
            "channels",
            f"nnU-Net reads {len(image)} channels{hint_at_slices(job.reader, job.images[0])}, but dataset.json has "
            f"{len(names)} ({_join(names)}): export the images anew, each channel as a volume of its own",
            visible=False,
        )
    in_space = job.dataset.file_ending in FILE_ENDINGS
    grids = [_grid(job.dataset, path) for path in job.images] if in_space else []
    for grid in grids:
        if difference := grid_difference(grids[0], grid):
            find("error", "grid", f"channels differ in {difference}: resample them to one grid")
    dimensions, orientation = (grids[0].GetDimension(), orientation_code(grids[0])) if grids else (None, None)
    if label is None:
        return _Facts(tuple(findings), dimensions, orientation, tuple(hashes))

    segmentation, label_properties = read_labels(job.reader, label)
    sides: dict[int, float] = {}
    found = np.unique(segmentation)
    if unknown := [value for value in found.tolist() if value not in job.dataset.labels]:
        expected = ", ".join(map(str, sorted(job.dataset.labels)))
        find(
            "error",
            "labels",
            f"label {', '.join(f'{value:.9g}' for value in unknown[:5])}, but dataset.json has {expected}",
        )
    labels = frozenset(int(value) for value in found if np.isfinite(value))
    if grids:
        label_image = read_image(label)
        sides = _sides(label_image, labels & job.dataset.labels - {0, job.dataset.ignore})
        difference = grid_difference(grids[0], _as_taken(job.dataset, label_image))
    else:
        shapes = image.shape[1:], segmentation.shape
        spacings = tuple(properties["spacing"]), tuple(label_properties["spacing"])  # of TIFF files: of a JSON beside
        difference = None
        if shapes[0] != shapes[1]:
            difference = f"shape {shapes[0]} and {shapes[1]}"
        elif not np.allclose(*spacings, rtol=1e-4, atol=0):
            difference = f"spacing {spacings[0]} and {spacings[1]} mm"
    if difference and len(image) == len(names):
        find(
            "error",
            "grid",
            f"image and label differ in {difference}: nnU-Net pairs voxels by index; resample the label",
        )
    return _Facts(tuple(findings), dimensions, orientation, tuple(hashes), labels, sides)


def _grid(dataset: RawDataset, path: Path) -> Grid:
    return _as_taken(dataset, read_image(path)) if reorients(dataset.reader or "") else read_header(path)


def _as_taken(dataset: RawDataset, image: sitk.Image) -> sitk.Image:
    """The image as nnU-Net takes it: some of its readers turn every volume to one orientation."""
    return sitk.DICOMOrient(image, "RAS") if reorients(dataset.reader or "") and image.GetDimension() == 3 else image


def _sides(image: sitk.Image, labels: Iterable[int]) -> dict[int, float]:
    segmentation = sitk.GetArrayFromImage(image)
    if segmentation.ndim != 3:
        return {}
    middle = image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])
    names = sorted(labels)
    centres = center_of_mass(np.ones_like(segmentation, np.uint8), segmentation, names)
    return {
        label: image.TransformContinuousIndexToPhysicalPoint([float(at) for at in centre[::-1]])[0] - middle[0]
        for label, centre in zip(names, centres, strict=True)
    }


def _merge(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of the same words in many cases as one."""
    cases: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        cases.setdefault((finding.check, finding.message), []).append(finding)
    return [
        Finding(same[0].level, check, tuple(case for one in same for case in one.cases), message, same[0].visible)
        for (check, message), same in cases.items()
    ]


def _declared(dataset: RawDataset, training: int) -> list[Finding]:
    """What ``dataset.json`` says of labels and of the number of training cases."""
    content, findings = read_description(dataset), []
    try:
        LabelManager(content["labels"], content.get("regions_class_order"))
    except Exception as error:  # nnU-Net raises whatever it likes
        message = f"nnU-Net refuses the labels of dataset.json ({first_line(error)}): correct them"
        findings.append(Finding("error", "labels", (), message))
    names: dict[frozenset[int], list[str]] = {}
    for name in content["labels"].keys() - {"ignore"}:
        names.setdefault(frozenset(dataset.regions.get(name, {0})), []).append(name)
    for values, same in names.items():
        if len(same) > 1:
            message = f"{_join(sorted(same))} are the same label {_join(sorted(values))}: give each class its own"
            findings.append(Finding("error", "labels", (), message))
    if (found := content.get("numTraining")) != training:
        message = f"dataset.json has numTraining {reprlib.repr(found)}, but {training} training cases are there: "
        findings.append(Finding("error", "files", (), f"{message}nnU-Net's own check stops at that; correct it"))
    return findings


def _label_values(dataset: RawDataset, facts: Mapping[str, _Facts], training: Sequence[str]) -> list[Finding]:
    findings = []
    if sorted(dataset.labels) != list(range(len(dataset.labels))):
        found = ", ".join(map(str, sorted(dataset.labels)))
        message = f"dataset.json has labels {found}: not consecutive, which nnU-Net needs; renumber them from 0"
        findings.append(Finding("error", "labels", (), message))
    present = {label for case in training for label in facts[case].labels}
    for name, labels in dataset.regions.items():
        if not present & set(labels):
            findings.append(Finding("warning", "labels", (), f"{name} (label {_join(labels)}) is in no case at all"))
    return findings


def _reader(dataset: RawDataset, images: Sequence[Path]) -> BaseReaderWriter:
    """The dataset's reader, by its first image that can be read."""
    for image in images[:-1]:
        try:
            return find_reader(dataset, image)
        except InputError:
            continue
    return find_reader(dataset, images[-1])


def _uncounted(dataset: RawDataset) -> list[Finding]:
    """Images that nnU-Net passes over for their names."""
    if dataset.listed is not None:
        return []
    ending, findings = dataset.file_ending, []
    for name, expected in (("imagesTr", f"_0000{ending}"), ("labelsTr", ending), ("imagesTs", f"_0000{ending}")):
        folder = dataset.folder / name
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            counted = file.name.endswith(ending) and (
                name == "labelsTr" or re.search(r"_\d{4}$", file.name[: -len(ending)])
            )
            if not counted and file.name[0] != "." and file.name.lower().endswith(IMAGE_ENDINGS):
                message = f"{name}/{file.name} is not counted: nnU-Net wants names that end in {expected}; rename it"
                findings.append(Finding("error", "files", (file.name,), message))
    return findings


def _hidden(dataset: RawDataset) -> list[Finding]:
    """Hidden files such as macOS writes beside others, and such as are left of a write that was killed."""
    findings = []
    for folder in ("imagesTr", "imagesTs") if dataset.listed is None else ():
        names = sorted(file.name for file in (dataset.folder / folder).glob(".*"))
        if hidden := tuple(name for name in names if name.endswith(dataset.file_ending)):
            message = f"a hidden file in {folder}, which nnU-Net takes for a case: delete it"
            findings.append(Finding("error", "files", hidden, message))
    return findings


def _stray(cases: Set[str]) -> list[Finding]:
    message = "a label without an image, which nnU-Net passes over: add the image, or delete the label"
    return [Finding("error", "files", tuple(sorted(cases)), message)] if cases else []


def _lost(cases: Iterable[str]) -> list[Finding]:
    lost = tuple(case for case in cases if case.endswith(LOST_ENDING))
    message = (
        f"a name that ends in {LOST_ENDING}, as nnU-Net names preprocessed segmentations: it neither trains nor "
        "validates on the case; rename its files"
    )
    return [Finding("error", "files", lost, message)] if lost else []


def _empty(facts: Mapping[str, _Facts], labelled: Sequence[str], ignore: int | None) -> list[Finding]:
    """Label maps without a class, where that is the exception."""
    empty = tuple(case for case in labelled if facts[case].labels <= {0, ignore})
    if not empty or 2 * len(empty) >= len(labelled):
        return []
    message = f"nothing but background, where {len(labelled) - len(empty)} other cases have classes: was it labelled?"
    return [Finding("warning", "labels", empty, message, visible=True)]


def _dimensions(facts: Mapping[str, _Facts]) -> list[Finding]:
    """Slices among volumes, or volumes among slices."""
    cases = {count: [case for case, one in facts.items() if one.dimensions == count] for count in (2, 3)}
    few, many = sorted(cases, key=lambda count: len(cases[count]))
    if not cases[few]:
        return []
    message = (
        f"a file in {few}D, in {len(cases[many])} other cases in {many}D: nnU-Net takes a 2D file for a slice 999 mm "
        "thick, and resamples it to the others' thickness; export all alike"
    )
    return [Finding("error", "dimensions", tuple(cases[few]), message)]


def _orientations(facts: Mapping[str, _Facts]) -> list[Finding]:
    counts = Counter(one.orientation for one in facts.values() if one.orientation)
    if len(counts) < 2:
        return []
    (usual, many), *others = counts.most_common()
    findings = []
    for code, _ in others:
        cases = tuple(case for case, one in facts.items() if one.orientation == code)
        message = (
            f"axes point to {code}, in {many} other cases to {usual}: nnU-Net does not turn images; reorient them all "
            "alike, or set overwrite_image_reader_writer to SimpleITKIOWithReorient"
        )
        findings.append(Finding("warning", "orientation", cases, message, visible=True))
    return findings


def _mirrored(facts: Mapping[str, _Facts]) -> list[Finding]:
    """Cases with a structure on the other side than nearly all others: voxels flipped, header left as it was.

    Looks at where labels lie from the image's centre and from one another, in at least 8 cases, and only where that
    varies little: a structure whose place scatters around the middle says nothing.
    """
    places: dict[str, dict[str, float]] = {}
    for case, one in facts.items():
        for label, side in one.sides.items():
            places.setdefault(f"label {label}", {})[case] = side
        for first, second in combinations(sorted(one.sides), 2):
            places.setdefault(f"label {first} from label {second}", {})[case] = one.sides[first] - one.sides[second]
    reasons: dict[str, str] = {}
    for what, by_case in places.items():
        values = np.array(list(by_case.values()))
        usual = np.median(values)
        deviation = 1.4826 * np.median(np.abs(values - usual))  # of a normal distribution, whatever the odd cases do
        if len(values) < 8 or abs(usual) < 3 * deviation:
            continue
        for case, place in by_case.items():
            if place * np.sign(usual) < -0.5 * abs(usual):
                where = "left" if place > 0 else "right"
                reasons.setdefault(case, f"{what} lies to the {where}, in nearly all other cases to the other side")
    return _merge(
        Finding("warning", "left–right", (case,), f"{reason}: flipped voxels? Compare with the source", visible=True)
        for case, reason in reasons.items()
    )


def _duplicates(facts: Mapping[str, _Facts], folds: Splits, test: set[str]) -> list[Finding]:
    owners: dict[str, list[str]] = {}
    for case, one in facts.items():
        for digest in one.hashes:
            owners.setdefault(digest, []).append(case)
    findings = []
    for group in sorted({tuple(cases) for cases in owners.values() if len(cases) > 1}):
        cases = tuple(dict.fromkeys(group))
        if len(cases) == 1:
            message = "two channels are the same image: one of them was exported under the other's name"
        elif test & set(cases) and set(cases) - test:
            message = "the same image in imagesTr and imagesTs: test scores would be those of training data"
        else:
            message = f"the same image in several cases{_leak(cases, folds)}: keep one"
        findings.append(Finding("error", "duplicates", cases, message, visible=True))
    return findings


def _leak(cases: Sequence[str], folds: Splits) -> str:
    leaking = [i for i, fold in enumerate(folds) if set(cases) & set(fold["train"]) and set(cases) & set(fold["val"])]
    return f", trained on and validated on in fold {_join(leaking)}" if leaking else ""


def _unlabelled(unlabelled: Sequence[str], training: Sequence[str], folds: Splits) -> list[Finding]:
    if not unlabelled:
        return []
    message = f"{len(unlabelled)} of {len(training)} cases have no label: all of their voxels are to be ignored"
    findings = [Finding("note", "labels", tuple(unlabelled), message)]
    if validating := [number for number, fold in enumerate(folds) if set(unlabelled) & set(fold["val"])]:
        message = f"fold {_join(validating)} validates on cases without a label, which have no score: "
        message += "write a splits_final.json that validates on labelled ones"
        found = [case for case in unlabelled if any(case in fold["val"] for fold in folds)]
        findings.append(Finding("warning", "splits", tuple(found), message))
    return findings


def _splits(folds: Splits, labelled: Sequence[str], training: Set[str], patients: Mapping[str, str]) -> list[Finding]:
    findings = []
    validated: set[str] = set()
    for number, fold in enumerate(folds):
        sides = {side: set(fold[side]) for side in ("train", "val")}
        validated |= sides["val"]
        if unknown := sorted((sides["train"] | sides["val"]) - training):
            findings.append(Finding("error", "splits", tuple(unknown), f"fold {number} names cases that are not there"))
        if both := sorted(sides["train"] & sides["val"]):
            findings.append(
                Finding("error", "splits", tuple(both), f"fold {number} trains and validates on the same case")
            )
        people = {side: {patients[case] for case in cases if case in patients} for side, cases in sides.items()}
        shared = people["train"] & people["val"]
        if leaked := [case for case in patients if patients[case] in shared and case not in both]:
            message = f"fold {number} trains and validates on scans of the same patient ({_join(sorted(shared)[:3])}): "
            message += "write a splits_final.json that keeps patients together"
            findings.append(Finding("error", "patients", tuple(leaked), message))
    if folds and (left := [case for case in labelled if case not in validated]):
        findings.append(Finding("warning", "splits", tuple(left), "validated in no fold"))
    return findings


def _absent_classes(dataset: RawDataset, facts: Mapping[str, _Facts], folds: Splits) -> list[Finding]:
    findings = []
    for name, labels in dataset.regions.items():

        def without(side: str, labels: tuple[int, ...] = labels) -> list[int]:
            present = {case for case, one in facts.items() if one.labels & set(labels)}
            absent = [number for number, fold in enumerate(folds) if not present & set(fold[side])]
            return absent if len(absent) < len(folds) else []  # absent everywhere is a finding of its own

        if untrained := without("train"):
            message = f"{name} is in no train case of fold {_join(untrained)}: it cannot be learnt; stratify the splits"
            findings.append(Finding("error", "folds", (), message))
        if unscored := without("val"):
            message = (
                f"{name} is in no val case of fold {_join(unscored)}: its score will be undefined; stratify the splits"
            )
            findings.append(Finding("warning", "folds", (), message))
    return findings


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _case_to_draw(dataset: RawDataset, name: str, image_file: Path, label_file: Path | None) -> DatasetCase:
    """The case with the values that NaN were before SimpleITK read them."""
    header = read_image(image_file)
    values = read_voxels(image_file).astype(np.float32)
    image = sitk.GetImageFromArray(values, isVector=header.GetNumberOfComponentsPerPixel() > 1)
    image.CopyInformation(header)
    image = _as_taken(dataset, image)
    label = _as_taken(dataset, read_image(label_file)) if label_file else None
    return DatasetCase(name, image, _labels_as_paired(label, image) if label else None)


def _labels_as_paired(label: sitk.Image, image: sitk.Image) -> sitk.Image | None:
    """The label's voxels by index, as nnU-Net pairs them, or by position where there are more or fewer of them.

    Between a slice and a volume there is no pairing.
    """
    if label.GetDimension() != image.GetDimension():
        return None
    if label.GetSize() != image.GetSize():
        label = sitk.Resample(label, image, sitk.Transform(), sitk.sitkNearestNeighbor)
    paired = sitk.GetImageFromArray(sitk.GetArrayFromImage(label))
    paired.CopyInformation(image)
    return paired

"""Adds images without labels to a raw dataset, and takes them out again.

Every voxel of their label maps has the ignore label, so that stock nnU-Net can train on the dataset as well: it draws
patches of such a case and computes no loss on them. The file ``ACCOUNT`` in the dataset's folder records what was added
and what has to be undone.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from filecmp import cmp
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from pydantic import Field, StrictBool

from missu_nnunet.datasets.conversion import PlannedFolder, execute, leftovers
from missu_nnunet.datasets.images import FILE_ENDINGS, read_header, refuse_non_finite_image
from missu_nnunet.datasets.inputs import find_cases
from missu_nnunet.datasets.label_maps import (
    LabelMap,
    case_conversion,
    description_with_ignore,
    ignore_label,
    refuse_incomplete,
)
from missu_nnunet.datasets.readers import find_reader, read_channels, read_labels, read_values
from missu_nnunet.datasets.splits import labelled_splits, read_patients, splits_files
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL, whole_file, write_json
from missu_nnunet.nnunet.dataset import (
    DATASET_FILE,
    LOST_ENDING,
    RawDataset,
    read_description,
    stray_labels,
    training_cases,
)
from missu_nnunet.nnunet.splits import SPLITS_FILE, Splits, read_splits, with_unlabelled
from missu_nnunet.parallel import map_cases
from missu_nnunet.structures import FilePath, Name, Structure, read_structure

ACCOUNT = "unlabelled.json"
"""The file that records which cases were added from which files, and whether the ignore label and splits were, too."""

_STAGING = f"{PARTIAL}unlabelled"
"""The folder in the dataset's in which all that is added is made ready."""


def find_unlabelled(dataset: RawDataset, cases: Iterable[str], workers: int) -> list[str]:
    """Find the training cases in whose label map every voxel has the ignore label.

    Raises:
        InputError: if a label map cannot be read.
    """
    if dataset.ignore is None:
        return []
    return [case for case, labels in _labels(dataset, cases, workers).items() if labels == {dataset.ignore}]


def plan_unlabelled(dataset: RawDataset, inputs: Sequence[Path], link: bool, workers: int) -> PlannedFolder:
    """Plan to add images to a dataset's training cases, with label maps that hold the ignore label alone.

    Args:
        dataset: the raw dataset to add to.
        inputs: images and folders of images, named as nnU-Net names channels.
        link: whether images are linked instead of copied.
        workers: number of processes.

    Raises:
        InputError: if an image does not suit the dataset, a training case or another image that was added has the same
            name, or files of the dataset's cases are missing.
    """
    training = training_cases(dataset)
    if not training:
        raise InputError(f"{dataset.folder}: found no training case, expected imagesTr/CASE_0000{dataset.file_ending}")
    account = _read_account(dataset)
    refuse_incomplete({case: files for case, files in training.items() if case not in account.cases})
    example = next(iter(training.values()))[0][0]
    reader = find_reader(dataset, example)
    cases = find_cases(inputs, dataset, reader)
    if dataset.file_ending in FILE_ENDINGS:
        _refuse_other_dimensions((file for files in cases.values() for file in files), example)
    _refuse_unfinished({case: files for case, files in account.cases.items() if case not in cases}, training)
    for case, files in cases.items():
        if case.endswith(LOST_ENDING):
            raise InputError(
                f"{files[0]}: {case} ends in {LOST_ENDING}, as nnU-Net names preprocessed segmentations, and it would "
                "not train on the case; rename the file"
            )
        if case in training and case not in account.cases:
            raise InputError(f"{files[0]}: {dataset.name} has a training case {case}; rename the file")
        if account.cases.get(case, _originals(files)) != _originals(files):
            raise InputError(
                f"{files[0]}: {case} was added from {account.cases[case][0]}, expected other names for other images: "
                "rename the file, or take that one out with --remove first"
            )
        copies, _ = training.get(case, ((), None))
        for file, image in zip(files, copies, strict=False):
            if image.is_file() and not cmp(file, image, shallow=False):
                raise InputError(
                    f"{file}: differs from {image}, which was added from a file of this name, expected other names for "
                    "other images: rename the file"
                )
    conversions = [
        case_conversion(
            reader,
            case,
            files,
            dataset.file_ending,
            link,
            label_map=partial(_nothing, reader, files, ignore_label(dataset)),
            label_folder=_label_folder(dataset),
        )
        for case, files in cases.items()
    ]
    for conversion in conversions:
        there = [target for target in conversion.targets if os.path.lexists(dataset.folder / target)]
        if there and conversion.case not in account.cases:  # of a case that dataset.json calls by another name
            raise InputError(
                f"{conversion.sources[0]}: would become {dataset.folder / there[0]}, which is there already; rename "
                "the file"
            )
    description = description_with_ignore(dataset, len(training.keys() | cases))
    if dataset.listed is not None:
        for case, files in cases.items():
            images = [f"imagesTr/{case}_{channel:04d}{dataset.file_ending}" for channel in range(len(files))]
            label = f"{_label_folder(dataset)}/{case}{dataset.file_ending}"
            description["dataset"][case] = {"images": images, "label": label}
    documents: dict[str, Any] = {DATASET_FILE: description}
    added = {case: _originals(files) for case, files in cases.items()}
    if not splits_files(dataset):
        others = training.keys() - account.cases
        unlabelled = {*_still_unlabelled(dataset, account.cases, workers), *find_unlabelled(dataset, others, workers)}
        patients = read_patients(dataset, training.keys() | cases)
        if folds := labelled_splits(training.keys() - unlabelled, patients):
            documents[SPLITS_FILE] = with_unlabelled(folds, unlabelled | added.keys(), patients)
    documents[ACCOUNT] = {
        "cases": account.cases | added,
        "declared_ignore": account.declared_ignore or dataset.ignore is None,
        "made_splits": account.made_splits or SPLITS_FILE in documents,
    }
    missing = [one for one in conversions if not all((dataset.folder / target).exists() for target in one.targets)]
    given = [file for folder in inputs if folder.is_dir() for file in sorted(folder.iterdir()) if not file.is_dir()]
    skipped = leftovers(given, conversions, partial(_why_skipped, dataset))
    return PlannedFolder(dataset.name, tuple(missing), skipped, documents=documents)


def rehearse(plan: PlannedFolder, dataset: RawDataset, workers: int) -> list[Path]:
    """Do what ``add`` does, but write nothing; return the files of splits that it would change.

    Raises:
        InputError: if ``add`` would raise it.
    """
    splits = _splits_with(plan, dataset, workers)
    with TemporaryDirectory() as scratch:
        execute(plan, Path(scratch), workers, keep=False)
    return list(splits)


def _splits_with(plan: PlannedFolder, dataset: RawDataset, workers: int) -> dict[Path, Splits]:
    """The new content of those of the dataset's files of splits that the planned cases change."""
    added = plan.documents[ACCOUNT]["cases"]
    unlabelled = _still_unlabelled(dataset, added, workers)
    patients = read_patients(dataset, training_cases(dataset).keys() | added)
    return _changed_splits(dataset, lambda folds: with_unlabelled(folds, unlabelled, patients))


def add(plan: PlannedFolder, dataset: RawDataset, workers: int) -> None:
    """Add the planned cases. After an interruption, another call goes on where this one stopped.

    Raises:
        InputError: if an image or the dataset's splits cannot be used; the dataset then stays as it was.
    """
    splits = _splits_with(plan, dataset, workers)
    staging = dataset.folder / _STAGING
    try:
        staged = execute(plan, staging, workers, keep=False)
    except InputError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    # The account first: whatever happens then, the way back is known.
    names = [ACCOUNT, DATASET_FILE, *(target for one in plan.conversions for target in one.targets)]
    for name in [*names, *(name for name in plan.documents if name not in names)]:
        (dataset.folder / name).parent.mkdir(exist_ok=True)
        _move(staged / name, dataset.folder / name)
    for file, folds in splits.items():
        write_json(folds, file)
    shutil.rmtree(staging)


def _move(source: Path, target: Path) -> None:
    """Move a file or link; ``target`` is never half-written, although its folder may lie on another disk."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with whole_file(target) as partial:
            shutil.copyfile(source, partial, follow_symlinks=False)
            # Before the copy gets its name: a file in both places would be foreign to a run that goes on.
            source.unlink()


@dataclass(frozen=True)
class Removal:
    """What changes in a dataset when the cases that were added are taken out again.

    Attributes:
        cases: the cases that are removed.
        labelled: the cases that stay, because somebody has labelled them since.
        files: the files that are deleted.
        description: the new content of ``dataset.json``.
        splits: the new content of the files of splits.
    """

    cases: tuple[str, ...]
    labelled: tuple[str, ...]
    files: tuple[Path, ...]
    description: dict[str, Any]
    splits: dict[Path, Splits]


def plan_removal(dataset: RawDataset, workers: int) -> Removal:
    """Plan to take out the cases that were added, but not those that somebody has labelled since.

    Raises:
        InputError: if no case was added, if the original of an image is gone and the dataset holds the only copy, if a
            case has files that missu did not add, or if the dataset's splits cannot be read.
    """
    account = _read_account(dataset)
    if not account.cases:
        raise InputError(f"{dataset.folder}: no {ACCOUNT} there, so missu has added no unlabelled cases")
    training = training_cases(dataset)
    labels = _labels(dataset, [case for case, (_, file) in training.items() if file.is_file()], workers)
    labelled = [case for case in account.cases if labels.get(case, {dataset.ignore}) != {dataset.ignore}]
    gone = [case for case in account.cases if case not in labelled]
    files = []
    for case in gone:
        # The names that the files were added under: what a dataset.json lists may be anybody's files.
        folder, originals, ending = dataset.folder, account.cases[case], dataset.file_ending
        images = [folder / "imagesTr" / f"{case}_{channel:04d}{ending}" for channel in range(len(originals))]
        label = folder / _label_folder(dataset) / f"{case}{ending}"
        found_images, found_label = training.get(case, (images, label))
        if foreign := [file for file in (*found_images, found_label) if file not in (*images, label)]:
            raise InputError(
                f"{foreign[0]}: belongs to the case {case}, expected only the files that missu added, "
                f"{', '.join(str(file.relative_to(folder)) for file in (*images, label))}: move it out of the dataset"
            )
        for image, original in zip(images, originals, strict=True):
            if image.is_file() and not image.is_symlink() and not _is_copied(Path(original), image):
                raise InputError(
                    f"{image}: its original, {original}, is gone or another image by now, and this the only copy: move "
                    "it out of the dataset"
                )
        beside = [file.with_name(f"{case}.json") for file in (images[0], label)]  # the spacing of TIFF files
        # Label maps first: after an interruption, none is left whose image is gone and cannot tell the reader.
        files += [file for file in (label, *images, *beside) if file.is_file() or file.is_symlink()]
    description = read_description(dataset)
    remaining = training.keys() - set(gone) - stray_labels(dataset)
    description["numTraining"] = len(remaining)
    if dataset.listed is not None:
        description["dataset"] = {case: entry for case, entry in description["dataset"].items() if case not in gone}
    if account.declared_ignore and not any(dataset.ignore in labels[case] for case in labels.keys() - set(gone)):
        description["labels"].pop("ignore", None)  # an interrupted removal has done so

    def without(folds: Splits) -> Splits:
        return [{side: [case for case in fold[side] if case not in gone] for side in fold} for fold in folds]

    splits = _changed_splits(dataset, without)
    made = dataset.folder / SPLITS_FILE
    if (
        account.made_splits
        and made in splits
        and splits[made] == labelled_splits(remaining, read_patients(dataset, remaining))
    ):
        del splits[made]
        files.append(made)
    return Removal(tuple(gone), tuple(labelled), tuple(files), description, splits)


def remove(removal: Removal, dataset: RawDataset) -> None:
    """Take out the planned cases. After an interruption, a new plan goes on where this one stopped."""
    shutil.rmtree(dataset.folder / _STAGING, ignore_errors=True)  # of an addition that was interrupted
    for file in removal.files:
        file.unlink()
    write_json(removal.description, dataset.file)
    for file, folds in removal.splits.items():
        write_json(folds, file)
    # The account last: as long as anything is left to undo, it says what.
    if removal.labelled:
        account = _read_account(dataset).model_dump()
        account["cases"] = {case: account["cases"][case] for case in removal.labelled}
        write_json(account, dataset.folder / ACCOUNT)
    else:
        (dataset.folder / ACCOUNT).unlink()


class _Account(Structure):
    """What was added: the original files of each case, by channel, and whether the ignore label and splits were."""

    cases: dict[Name, Annotated[list[FilePath], Field(min_length=1)]]
    declared_ignore: StrictBool
    made_splits: StrictBool


def _read_account(dataset: RawDataset) -> _Account:
    path = dataset.folder / ACCOUNT
    if not path.is_file():
        return _Account(cases={}, declared_ignore=False, made_splits=False)
    return read_structure(path, _Account, "missu dataset unlabelled writes it: restore it")


def _still_unlabelled(dataset: RawDataset, added: Iterable[str], workers: int) -> set[str]:
    """The cases, of those that were or will be added, that nobody has labelled since."""
    training = training_cases(dataset)
    there = [case for case in added if case in training and training[case][1].is_file()]
    return {*added} - {*there} | {*find_unlabelled(dataset, there, workers)}


def _label_folder(dataset: RawDataset) -> str:
    """The folder of the label maps that are added.

    Where ``dataset.json`` lists all files, there may be no ``labelsTr``: nnU-Net would look in it for the references of
    all cases of a cross-validation.
    """
    return "labelsTr" if dataset.listed is None else "labelsTr_unlabelled"


def _originals(files: Iterable[Path]) -> list[str]:
    """The files of a case as the account names them."""
    return [str(file.resolve()) for file in files]


def _is_copied(original: Path, image: Path) -> bool:
    """Whether the original of an image is still there, and no link to the image itself."""
    return original.is_file() and original.resolve() != image.resolve() and cmp(original, image, shallow=False)


def _why_skipped(dataset: RawDataset, file: Path) -> str:
    return f"not named CASE_0000{dataset.file_ending}" if file.exists() else "a link to a file that is not there"


def _refuse_other_dimensions(images: Iterable[Path], example: Path) -> None:
    """Refuse slices where the training images are volumes, and volumes where they are slices."""
    expected = read_header(example).GetDimension()
    for image in images:
        if (found := read_header(image).GetDimension()) != expected:
            raise InputError(
                f"{image}: found {found}D, expected {expected}D like {example}: nnU-Net takes a 2D file for a slice "
                "999 mm thick; export all alike"
            )


def _refuse_unfinished(added: Mapping[str, list[str]], training: Mapping[str, tuple[list[Path], Path]]) -> None:
    """Refuse to go on where cases that were added earlier are not all there: the splits would name them."""
    for case, originals in added.items():
        images, label = training.get(case, ([], Path()))
        if len(images) < len(originals) or not label.is_file():
            raise InputError(
                f"{originals[0]}: added as {case}, whose files in the dataset are not all there: add it once more, "
                "which finishes what was interrupted, or take out all that was added with --remove"
            )


def _nothing(reader: BaseReaderWriter, images: Sequence[Path], ignore: int) -> LabelMap:
    """Check the images, and make a label map of the ignore label on their grid."""
    for image in images:
        voxels = read_values(reader, image)
        refuse_non_finite_image(image, voxels)
        if voxels.min() == voxels.max():
            raise InputError(f"{image}: is constant: nothing to learn from; export it again")
    channels, properties = read_channels(reader, images)
    return np.full(channels.shape[1:], ignore, np.int16), properties


def _labels(dataset: RawDataset, cases: Iterable[str], workers: int) -> dict[str, set[float]]:
    """The values in the label map of each case."""
    training = training_cases(dataset)
    files = {case: training[case][1] for case in cases}
    if not files:
        return {}
    reader = find_reader(dataset, training[next(iter(files))][0][0])
    found = {}
    results = map_cases(partial(_values, reader), list(files.values()), workers, "reading labels")
    for case, result in zip(files, results, strict=True):
        if isinstance(result, InputError):
            raise result
        found[case] = result
    return found


def _values(reader: BaseReaderWriter, file: Path) -> set[float]:
    return set(np.unique(read_labels(reader, file)[0]).tolist())


def _changed_splits(dataset: RawDataset, change: Callable[[Splits], Splits]) -> dict[Path, Splits]:
    """The new content of every file of the dataset's splits; nnU-Net wants its own copy to be the dataset's."""
    return {file: change(read_splits(file)) for file in splits_files(dataset)}

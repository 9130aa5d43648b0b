"""Sparse copies of a dataset: some labels are kept, the rest becomes nnU-Net's ignore label.

A sparse copy answers what a lab asks before it annotates: how much accuracy would be lost with scribbles, with every
Nth slice, or with a few labelled cases? What is kept of a case depends on the seed and the case's name alone, so that
adding or removing a case does not change the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import route_through_array

from missu_nnunet.datasets.conversion import PlannedFolder
from missu_nnunet.datasets.images import refuse_unknown_labels
from missu_nnunet.datasets.label_maps import (
    LabelMap,
    case_conversion,
    description_with_ignore,
    ignore_label,
    refuse_incomplete,
)
from missu_nnunet.datasets.readers import Properties, find_reader, read_labels
from missu_nnunet.datasets.splits import labelled_splits, read_patients, splits_files
from missu_nnunet.datasets.unlabelled import find_unlabelled
from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json, read_table
from missu_nnunet.nnunet.dataset import DATASET_FILE, RawDataset, test_set, training_cases
from missu_nnunet.nnunet.splits import SPLITS_FILE, Splits, read_splits, with_unlabelled

Labels = NDArray[np.int16]


@dataclass(frozen=True)
class Sparsity:
    """Which labels of a dense dataset are kept.

    Attributes:
        scribbles: whether one thin stroke per class and slice is kept, the background's included.
        every: N, to keep every Nth slice, counted from a random one; None keeps all slices.
        labelled: number of cases that keep labels, the first ones by name; None stands for all cases.
        seed: seed of the random choices.
    """

    scribbles: bool = False
    every: int | None = None
    labelled: int | None = None
    seed: int = 0


def keep_scribbles(slices: Labels, ignore: int, rng: np.random.Generator) -> Labels:
    """Keep one stroke per class and slice, one voxel wide, inside the class's largest component in the slice.

    Args:
        slices: dense labels ``(S, H, W)``.
        ignore: the ignore label, which replaces all other voxels.
        rng: chooses the ends of the strokes.
    """
    kept = np.full_like(slices, ignore)
    for dense, sparse in zip(slices, kept, strict=True):
        for label in np.unique(dense[dense != ignore]):
            rows, columns = _stroke(dense == label, rng)
            sparse[rows, columns] = label
    return kept


def keep_slices(slices: Labels, ignore: int, every: int, rng: np.random.Generator) -> Labels:
    """Keep every Nth slice of those that have labels, and at least one.

    Args:
        slices: labels ``(S, H, W)``.
        ignore: the ignore label, which replaces all voxels of the other slices.
        every: N.
        rng: chooses the slice that is counted from.
    """
    kept, labelled = np.full_like(slices, ignore), np.flatnonzero((slices != ignore).any(axis=(1, 2)))
    if len(labelled):
        chosen = labelled[rng.integers(min(every, len(labelled))) :: every]
        kept[chosen] = slices[chosen]
    return kept


def plan_sparse(
    dataset: RawDataset, parent: Path, name: str, sparsity: Sparsity, link: bool, workers: int
) -> PlannedFolder:
    """Plan a copy of a dataset with fewer labels.

    Args:
        dataset: the densely labelled dataset.
        parent: the folder of raw datasets that the copy will lie in.
        name: name of the copy, ``DatasetXXX_Name``.
        sparsity: which labels are kept.
        link: whether images are linked instead of copied.
        workers: number of processes.

    Raises:
        InputError: if the dataset has no cases, or fewer with labels than are to be labelled; if slices are to be kept
            of images that have but one; or if there is a copy of that name with other settings.
    """
    cases, number = training_cases(dataset), sparsity.labelled
    if not cases:
        raise InputError(f"{dataset.folder}: found no training case, expected imagesTr/CASE_0000{dataset.file_ending}")
    refuse_incomplete(cases)
    unlabelled = set(find_unlabelled(dataset, cases, workers))
    labelled = [case for case in cases if case not in unlabelled]
    if number is not None and number > len(labelled):
        raise InputError(f"--cases {number}: {dataset.name} has {len(labelled)} cases with labels; give fewer")
    images, label = next(iter(cases.values()))
    reader = find_reader(dataset, images[0])
    if sparsity.every:  # refused before anything is written
        _slices(*read_labels(reader, label), sparsity, label)
    kept = set(labelled[:number])
    conversions = []
    for case, (images, label) in cases.items():
        thinned = partial(_thinned, dataset, reader, case, label, sparsity if case in kept else None)
        conversions.append(case_conversion(reader, case, images, dataset.file_ending, link, label, thinned))
    for case, images in test_set(dataset).items():
        conversions.append(case_conversion(reader, case, images, dataset.file_ending, link))
    description = description_with_ignore(dataset, len(cases))
    description.pop("dataset", None)  # the copy's files lie in its own folders
    description["sparse"] = {"of": dataset.name} | asdict(sparsity)
    _refuse_other(parent / name, description["sparse"])
    documents: dict[str, Any] = {DATASET_FILE: description}
    if folds := _splits(dataset, cases, kept, sparsity):
        documents[SPLITS_FILE] = folds
    patients = dataset.folder / "cases.csv"
    tables = {}
    if patients.is_file():
        tables[patients.name] = read_table(patients, "correct it")
    return PlannedFolder(name, tuple(conversions), skipped={}, documents=documents, tables=tables)


def _thinned(
    dataset: RawDataset, reader: BaseReaderWriter, case: str, file: Path, sparsity: Sparsity | None
) -> LabelMap:
    """Make a case's sparse label map; without a sparsity, no label is kept."""
    values, properties = read_labels(reader, file)
    refuse_unknown_labels(file, values, dataset.labels, f"correct it, or {dataset.file}")
    slices, axis = _slices(values, properties, sparsity, file)
    ignore = ignore_label(dataset)
    if sparsity is None:
        slices = np.full_like(slices, ignore)
    else:
        rng = np.random.default_rng([sparsity.seed, zlib.crc32(case.encode())])
        if sparsity.scribbles:
            slices = keep_scribbles(slices, ignore, rng)
        elif sparsity.every:
            slices = keep_slices(slices, ignore, sparsity.every, rng)
    return np.moveaxis(slices, 0, axis), properties


def _slices(values: NDArray[Any], properties: Properties, sparsity: Sparsity | None, file: Path) -> tuple[Labels, int]:
    """The slices of a label map, which were acquired across its widest step or are but one, and their axis."""
    steps = np.round(properties["spacing"], 3)
    axis = int(np.argmax(np.where(np.array(values.shape) == 1, np.inf, steps)))
    slices = np.moveaxis(values.astype(np.int16), axis, 0)
    if sparsity and sparsity.every and len(slices) < 2:
        raise InputError(
            f"{file}: a single slice, expected a volume to keep every Nth slice of; use --scribbles or --cases"
        )
    return slices, axis


def _stroke(region: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a line between two random places in a region's largest part, off its edge where possible."""
    parts, _ = ndimage.label(region, np.ones((3, 3)))
    part = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    depth = ndimage.distance_transform_edt(part)
    places = np.argwhere(depth > 1) if depth.max() > 1 else np.argwhere(part)
    start, end = places[rng.integers(len(places), size=2)]
    cost = np.where(part, 1 / np.clip(depth, 1, 3), -1)  # no way through what is negative
    path, _ = route_through_array(cost, start, end)
    rows, columns = np.array(path).T
    return rows, columns


def _splits(dataset: RawDataset, cases: Collection[str], labelled: Collection[str], sparsity: Sparsity) -> Splits:
    """Splits that validate on labelled cases only: the dataset's own where as many cases are labelled as there."""
    files = splits_files(dataset)
    if sparsity.labelled is None and files:
        return read_splits(files[0])
    if len(labelled) == len(cases):
        return []
    patients = read_patients(dataset, cases)
    return with_unlabelled(
        labelled_splits(labelled, patients), [case for case in cases if case not in labelled], patients
    )


def _refuse_other(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / DATASET_FILE
    if path.is_file():
        found = read_json(path, "remove the dataset to make it anew").get("sparse")
        if found != settings:
            raise InputError(f"{folder}: found a dataset made with {found}, expected {settings}; choose another name")

"""Temperature scaling of a trained model, fitted on the validation of its folds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import logit

from missu_nnunet.boxes import bounding_box
from missu_nnunet.datasets.images import refuse_unknown_labels
from missu_nnunet.datasets.readers import read_labels
from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.calibration import (
    Reliability,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)
from missu_nnunet.files import write_json
from missu_nnunet.nnunet.dataset import read_dataset
from missu_nnunet.nnunet.model import PLANS_FILE, folds_of, read_model, read_model_plans
from missu_nnunet.nnunet.plans import malformed_plan_named
from missu_nnunet.nnunet.preprocessed import references_folder
from missu_nnunet.prediction.temperature import FILE
from missu_nnunet.structures import Structure, read_structure
from missu_nnunet.text import first_line

_MARGIN = 8
"""Margin around the foreground in voxels; far from it a model is always right, which would hide the rest."""
_VALUES = 20_000_000
"""Number of probabilities that are drawn in all, which bounds memory and time."""
_VOXELS_PER_CASE = 50_000
_COLUMNS = ("confidence", "accuracy", "share")
_ROUNDING = 1e-3
"""How far rounding may leave a probability outside 0 to 1."""
_SMALLEST = 1e-7
"""The smallest distance from 0 and 1 at which a probability still has digits."""

_Number = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class _Bin(Structure):
    """A point of a reliability curve."""

    confidence: _Number
    accuracy: _Number
    share: _Number


class _Curves(Structure):
    """The reliability before and after calibration."""

    before: Annotated[list[_Bin], Field(min_length=1)]
    after: Annotated[list[_Bin], Field(min_length=1)]


class _CalibrationFile(Structure):
    """What is used of ``calibration.json`` beside the temperature."""

    reliability: _Curves


@dataclass(frozen=True)
class Calibration:
    """A model's temperature, and what it changes on the validation cases on which it was fitted.

    Attributes:
        temperature: number by which logits are divided.
        folds: names of the folds whose validation cases were used.
        cases: number of these cases.
        voxels: number of voxels that were drawn from them.
        likelihoods: mean negative log-likelihood before and after calibration.
        reliabilities: reliability before and after calibration.
    """

    temperature: float
    folds: tuple[str, ...]
    cases: int
    voxels: int
    likelihoods: tuple[float, float]
    reliabilities: tuple[Reliability, Reliability]


def calibrate(model: Path, references: Path) -> Calibration:
    """Fit the temperature to the probabilities that ``nnUNetv2_train --npz`` saved, and write ``calibration.json``.

    Args:
        model: a trained model's folder, ``Trainer__Plans__configuration``.
        references: folder of the cases' reference segmentations, such as nnU-Net's ``gt_segmentations``.

    Raises:
        InputError: if there are no probabilities to fit it to, or a file is missing or damaged.
    """
    plans, dataset_json = read_model(model)
    dataset = read_dataset(model)
    with malformed_plan_named(model / PLANS_FILE):
        plans_manager = PlansManager(plans)
        labels = plans_manager.get_label_manager(dataset_json)
        reader = plans_manager.image_reader_writer_class()
    by_fold = {fold.name: sorted(fold.validation.glob("*.npz")) for fold in folds_of(model)}
    files = list(chain.from_iterable(by_fold.values()))
    if not files:
        raise InputError(
            f"{model}: no probabilities of cases that a fold did not train on (fold_0/validation/*.npz and so on, not "
            "fold_all); write them with nnUNetv2_train … --val --npz"
        )
    per_case = min(_VOXELS_PER_CASE, _VALUES // (len(files) * labels.num_segmentation_heads))
    random = np.random.default_rng(0)
    drawn = []
    for file in files:
        reference = references / f"{file.stem}{dataset.file_ending}"
        if not reference.is_file():
            raise InputError(f"{reference}: no such file, expected the segmentation of {file.stem}; see --references")
        segmentation = read_labels(reader, reference)[0]
        remedy = f"correct it or {dataset.file}, or see --references"
        refuse_unknown_labels(reference, segmentation, dataset.labels, remedy)
        probabilities = _probabilities(file, (labels.num_segmentation_heads, *segmentation.shape))
        drawn.append(_draw(probabilities, segmentation, labels, per_case, random))
    logits, targets = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    if not len(logits):
        raise InputError(f"{references}: all voxels are ignored, expected some with a class; see --references")
    temperature = fit_temperature(logits, targets)
    calibration = Calibration(
        temperature=temperature,
        folds=tuple(fold for fold, found in by_fold.items() if found),
        cases=len(files),
        voxels=len(logits),
        likelihoods=(
            negative_log_likelihood(logits, targets, 1),
            negative_log_likelihood(logits, targets, temperature),
        ),
        reliabilities=(reliability(logits, targets, 1), reliability(logits, targets, temperature)),
    )
    write_json(_as_json(calibration), model / FILE)
    return calibration


def find_references(model: Path) -> Path:
    """Find the reference segmentations that nnU-Net's preprocessing copied for the model's dataset.

    Raises:
        InputError: if there is no such folder, or no such model.
    """
    read_model_plans(model)
    folder = references_folder(model.resolve().parent.name)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; preprocess the dataset, or name the folder with --references")
    return folder


def read_reliability(model: Path) -> dict[str, Reliability]:
    """Read the reliability "before" and "after" calibration; it is empty for a model that is not calibrated.

    Raises:
        InputError: if the file holds no reliability.
    """
    file = model / FILE
    if not file.exists():
        return {}
    remedy = "write it anew with missu weights calibrate, or remove it"
    curves = read_structure(file, _CalibrationFile, remedy).reliability
    return {
        name: Reliability(*(np.array([getattr(row, key) for row in rows]) for key in _COLUMNS))
        for name, rows in (("before", curves.before), ("after", curves.after))
    }


def _probabilities(file: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read the case's probabilities, which must have the shape ``(C, Z, Y, X)``."""
    remedy = "validate the fold again with --val --npz"
    try:
        with np.load(file) as content:
            probabilities = content["probabilities"]
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{file}: cannot be read ({first_line(error)}); {remedy}") from error
    if probabilities.shape != shape:
        raise InputError(
            f"{file}: probabilities of shape {probabilities.shape}, but its reference has {shape[1:]} voxels and the "
            f"dataset {shape[0]} classes or regions; {remedy}"
        )
    found = f"values of type {probabilities.dtype}"
    if probabilities.dtype.kind == "f":
        smallest, largest = probabilities.min(), probabilities.max()
        if smallest >= -_ROUNDING and largest <= 1 + _ROUNDING:  # NaN is not
            return probabilities.astype(np.float32, copy=False)
        found = f"values from {smallest:g} to {largest:g}"
    raise InputError(f"{file}: {found}, expected probabilities, which are numbers from 0 to 1; {remedy}")


def _draw(
    probabilities: NDArray[np.float32],
    segmentation: NDArray[np.float32],
    labels: LabelManager,
    count: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Draw voxels from the box around all true and predicted foreground, and return their logits and targets."""
    predicted = np.asarray(labels.convert_probabilities_to_segmentation(probabilities))
    ignored = segmentation == labels.ignore_label if labels.has_ignore_label else np.zeros(segmentation.shape, bool)
    foreground = ((segmentation > 0) & ~ignored) | (predicted > 0)
    box = bounding_box(foreground, _MARGIN) or (slice(None),) * segmentation.ndim
    voxels = np.flatnonzero(~ignored[box])
    voxels = random.choice(voxels, min(count, len(voxels)), replace=False)
    known = segmentation[box].ravel()[voxels]
    values = np.stack([channel[box].ravel()[voxels] for channel in probabilities], axis=1)
    values = np.clip(values, _SMALLEST, 1 - _SMALLEST)
    if labels.has_regions:
        targets = np.stack([np.isin(known, region) for region in labels.foreground_regions], axis=1)
        return logit(values), targets.astype(np.uint8)
    # The logits up to a constant, which the softmax takes out.
    return np.log(values), np.searchsorted(labels.all_labels, known)


def _as_json(calibration: Calibration) -> dict[str, object]:
    def curve(found: Reliability) -> list[dict[str, float]]:
        rows = zip(*(getattr(found, name) for name in _COLUMNS), strict=True)
        return [dict(zip(_COLUMNS, map(float, row), strict=True)) for row in rows if row[-1]]

    before_and_after = ("before", "after")
    return {
        "temperature": calibration.temperature,
        "folds": list(calibration.folds),
        "cases": calibration.cases,
        "voxels": calibration.voxels,
        "negative_log_likelihood": dict(zip(before_and_after, calibration.likelihoods, strict=True)),
        "expected_calibration_error": {
            name: found.expected_calibration_error
            for name, found in zip(before_and_after, calibration.reliabilities, strict=True)
        },
        "reliability": {
            name: curve(found) for name, found in zip(before_and_after, calibration.reliabilities, strict=True)
        },
    }

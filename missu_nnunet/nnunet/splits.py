"""``splits_final.json``: which cases each fold trains and validates on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from missu_nnunet.errors import InputError
from missu_nnunet.files import whole_file
from missu_nnunet.structures import Name, Structure, read_structure
from missu_nnunet.text import first_line

Splits = Sequence[Mapping[str, Sequence[str]]]
"""For each fold the cases under "train" and "val"."""

SPLITS_FILE = "splits_final.json"


class _Split(Structure):
    """The cases of a fold."""

    train: list[Name]
    val: list[Name]


def read_splits(file: Path) -> Splits:
    """Read a file of splits.

    Raises:
        InputError: if its content is not what nnU-Net writes.
    """
    remedy = 'not nnU-Net\'s splits, a list of {"train": […], "val": […]}: correct it, or delete it and it is made anew'
    return [fold.model_dump() for fold in read_structure(file, list[_Split], remedy)]


def generate_splits(cases: Collection[str]) -> Splits:
    """Make the five folds that nnU-Net would make, or, where there are fewer than five cases, as many as there are."""
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    return generate_crossval_split(sorted(cases), seed=12345, n_splits=min(5, len(cases)))


def with_unlabelled(folds: Splits, unlabelled: Collection[str], patients: Mapping[str, str]) -> Splits:
    """Change folds so that each trains on all unlabelled cases and validates on none of them.

    Where a fold validates on a case of a patient, it does not train on the same patient's unlabelled cases.

    Args:
        folds: the folds to change.
        unlabelled: the cases that nobody labelled.
        patients: the patient of each case; a case that is not named there is a patient of its own.
    """
    changed: list[dict[str, list[str]]] = []
    for fold in folds:
        val = [case for case in fold["val"] if case not in unlabelled]
        validated = {patients.get(case, case) for case in val}
        learnt = [case for case in unlabelled if patients.get(case, case) not in validated]
        changed.append({"train": sorted({*fold["train"]}.difference(unlabelled).union(learnt)), "val": val})
    return changed


def ensure_splits(preprocessed: Path, data_identifier: str) -> None:
    """Write the splits of a preprocessed dataset where there are none.

    Trainings that start at the same time would each write the same splits, and read one another's half-written file.

    Args:
        preprocessed: the dataset's folder in nnUNet_preprocessed.
        data_identifier: name of the folder in it that holds the cases of one configuration.

    Raises:
        InputError: if ``find_splits`` raises it.
    """
    file = preprocessed / SPLITS_FILE
    splits = find_splits(preprocessed, data_identifier)
    if not file.is_file():
        with whole_file(file) as partial:
            partial.write_text(json.dumps(splits, indent=4))


def find_splits(preprocessed: Path, data_identifier: str) -> Splits:
    """Return the splits of a preprocessed dataset, or those that nnU-Net would make where there are none.

    Cases that nobody labelled are trained on in every fold, and validated on in none.

    Args:
        preprocessed: the dataset's folder in nnUNet_preprocessed.
        data_identifier: name of the folder in it that holds the cases of one configuration.

    Raises:
        InputError: if there is a file whose content is not what nnU-Net writes, or none and too few labelled cases to
            make folds.
    """
    from missu_nnunet.nnunet.preprocessed import unlabelled_cases

    file = preprocessed / SPLITS_FILE
    if file.is_file():
        return read_splits(file)
    data = preprocessed / data_identifier
    cases = _cases(data)
    unlabelled = unlabelled_cases(data, cases)
    labelled = set(cases).difference(unlabelled)
    if len(labelled) < 2:
        raise InputError(
            f"{preprocessed}: {len(labelled)} of {len(cases)} cases are labelled, but cross-validation needs two; "
            "label more, or train fold all"
        )
    return with_unlabelled(generate_splits(labelled), unlabelled, {})


def check_preprocessed(folds: Splits, data: Path) -> None:
    """Refuse folds with cases that have not been preprocessed, as after cases were added to the dataset.

    Args:
        folds: the folds.
        data: the folder of the preprocessed cases of one configuration.

    Raises:
        InputError: if a case is not there.
    """
    named = {case for fold in folds for part in ("train", "val") for case in fold[part]}
    if absent := sorted(named.difference(_cases(data))):
        raise InputError(
            f"{data.parent / SPLITS_FILE}: found {absent[0]}, which is not among the preprocessed cases in {data}; "
            "preprocess the dataset again, or correct the file"
        )


def _cases(data: Path) -> list[str]:
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    try:
        cases: list[str] = infer_dataset_class(str(data)).get_identifiers(str(data))
    except (AssertionError, LookupError, OSError) as error:  # none, or a file that is not one
        raise InputError(
            f"{data}: not nnU-Net's preprocessed cases ({first_line(error)}); preprocess the dataset again"
        ) from None
    return cases

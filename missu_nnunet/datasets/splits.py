"""Splits of a dataset into folds, in the form of nnU-Net's ``splits_final.json``, which keep patients together."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_table
from missu_nnunet.nnunet.dataset import RawDataset
from missu_nnunet.nnunet.folders import folder_if_set
from missu_nnunet.nnunet.splits import SPLITS_FILE, Splits, generate_splits, read_splits


def splits_files(dataset: RawDataset) -> list[Path]:
    """List the files that hold the dataset's splits, first the one in nnUNet_preprocessed, which nnU-Net trains on."""
    preprocessed = folder_if_set("nnUNet_preprocessed")
    folders = ([preprocessed / dataset.name] if preprocessed else []) + [dataset.folder]
    return [folder / SPLITS_FILE for folder in folders if (folder / SPLITS_FILE).is_file()]


def splits_of(dataset: RawDataset, training: Collection[str]) -> Splits:
    """Return the splits that nnU-Net would train on: those of a file, or else the ones that it would make.

    Args:
        dataset: the raw dataset.
        training: the training cases; of fewer than five, nnU-Net makes no splits, and the result is empty.

    Raises:
        InputError: if the file does not hold splits.
    """
    if files := splits_files(dataset):
        return read_splits(files[0])
    return generate_splits(training) if len(training) >= 5 else []


def labelled_splits(labelled: Collection[str], patients: Mapping[str, str]) -> Splits:
    """Split labelled cases into five folds, or as many as there are patients.

    Where every case is a patient of its own, the splits are nnU-Net's; otherwise patients are dealt to the folds.

    Args:
        labelled: the labelled cases.
        patients: the patient of each case, by the case's name.
    """
    by_patient: dict[str, list[str]] = {}
    for case in sorted(labelled):
        by_patient.setdefault(patients[case], []).append(case)
    if len(by_patient) == len(labelled) >= 2:
        return generate_splits(labelled)
    return stratified_splits(dict.fromkeys(by_patient, ""), by_patient)


def stratified_splits(strata: Mapping[str, str], cases: Mapping[str, Sequence[str]]) -> Splits:
    """Deal patients to folds so that each fold gets its share of every stratum. The result is always the same.

    scikit-learn's ``StratifiedKFold`` refuses strata with fewer members than there are folds; dealing does not.

    Args:
        strata: the stratum of each patient.
        cases: the cases of each patient, which stay together.

    Returns:
        Five folds, or as many as there are patients; none where there is a single patient.
    """
    number_of_folds = min(5, len(strata))
    if number_of_folds < 2:
        return []
    shuffler = random.Random(12345)  # nnU-Net's seed
    dealt: list[str] = []
    for stratum in sorted(set(strata.values())):
        members = sorted(patient for patient in strata if strata[patient] == stratum)
        shuffler.shuffle(members)
        dealt += members
    folds: list[dict[str, list[str]]] = []
    for fold in range(number_of_folds):
        validation = set(dealt[fold::number_of_folds])
        folds.append(
            {
                "train": sorted(case for patient in strata if patient not in validation for case in cases[patient]),
                "val": sorted(case for patient in validation for case in cases[patient]),
            }
        )
    return folds


def read_patients(dataset: RawDataset, training: Collection[str], pattern: str | None = None) -> dict[str, str]:
    """Find the patient of each training case.

    The column "patient" of the dataset's ``cases.csv`` names it; where there is no such file, every case is a patient
    of its own.

    Args:
        dataset: the raw dataset.
        training: the training cases.
        pattern: a regular expression whose first group finds the patient in a case's name, instead of the file.

    Raises:
        InputError: if the pattern is not a regular expression with a group, if a case does not match it, or if the
            table lacks a column.
    """
    if pattern:
        try:
            matches = {case: re.search(pattern, case) for case in training}
            patients = {case: match[1] for case, match in matches.items() if match}
        except (re.error, IndexError) as error:
            raise InputError(f"--patient {pattern}: {error}; expected a regular expression with a group") from error
        if unmatched := [case for case in training if case not in patients]:
            raise InputError(f"--patient {pattern}: does not match case {unmatched[0]}")
        return patients
    table = dataset.folder / "cases.csv"
    known = {}
    if table.is_file():
        rows = read_table(table, "correct it")
        if rows and not {"case", "patient"} <= rows[0].keys():
            raise InputError(
                f"{table}: found the columns {', '.join(rows[0])}, expected case and patient, separated by commas; "
                "correct it"
            )
        known = {row["case"]: row["patient"] for row in rows if row["patient"]}
    return {case: known.get(case, case) for case in training}

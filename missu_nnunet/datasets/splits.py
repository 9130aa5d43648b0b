"""Splits of a dataset into folds, as nnU-Net keeps them in splits_final.json, and the patients they keep together."""

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
    """The files that hold the dataset's splits: what nnU-Net trains on comes first, in nnUNet_preprocessed."""
    preprocessed = folder_if_set("nnUNet_preprocessed")
    folders = ([preprocessed / dataset.name] if preprocessed else []) + [dataset.folder]
    return [folder / SPLITS_FILE for folder in folders if (folder / SPLITS_FILE).is_file()]


def splits_of(dataset: RawDataset, training: Collection[str]) -> Splits:
    """The splits that nnU-Net would train on: those of a file, or its own; none for fewer cases than its five folds.

    Raises:
        InputError: the file is not one of splits.
    """
    if files := splits_files(dataset):
        return read_splits(files[0])
    return generate_splits(training) if len(training) >= 5 else []


def labelled_splits(labelled: Collection[str], patients: Mapping[str, str]) -> Splits:
    """Splits of labelled cases: nnU-Net's own where each is a patient, otherwise folds of patients; five, or fewer.

    Args:
        labelled: the cases.
        patients: each case's patient.
    """
    by_patient: dict[str, list[str]] = {}
    for case in sorted(labelled):
        by_patient.setdefault(patients[case], []).append(case)
    if len(by_patient) == len(labelled) >= 2:
        return generate_splits(labelled)
    return stratified_splits(dict.fromkeys(by_patient, ""), by_patient)


def with_unlabelled(folds: Splits, unlabelled: Collection[str], patients: Mapping[str, str]) -> Splits:
    """The folds, every one training on all unlabelled cases and validating on none.

    A patient of whom a fold validates a case is kept out of its training, unlabelled scans included.
    """
    changed: list[dict[str, list[str]]] = []
    for fold in folds:
        val = [case for case in fold["val"] if case not in unlabelled]
        validated = {patients.get(case, case) for case in val}
        learnt = [case for case in unlabelled if patients.get(case, case) not in validated]
        changed.append({"train": sorted({*fold["train"], *learnt}), "val": val})
    return changed


def stratified_splits(strata: Mapping[str, str], cases: Mapping[str, Sequence[str]]) -> Splits:
    """Folds of patients, each with its share of every stratum; always the same.

    scikit-learn's StratifiedKFold refuses strata smaller than the number of folds; dealing out does not.

    Args:
        strata: each patient's stratum.
        cases: each patient's cases, which stay together.

    Returns:
        For each fold its cases, "train" and "val": five folds, or as many as there are patients; none for one patient.
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
    """Each training case's patient.

    Args:
        dataset: whose cases.csv has a column "patient", if it has one; otherwise every case is a patient.
        training: the cases.
        pattern: a regular expression whose first group, searched in a case's name, is the patient, instead.

    Raises:
        InputError: the pattern is none, or a case does not match it.
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
        rows = read_table(table, "correct it, or name the patients with --patient")
        known = {row.get("case"): row["patient"] for row in rows if row.get("patient")}
    return {case: known.get(case, case) for case in training}

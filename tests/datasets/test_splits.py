from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.datasets.splits import read_patients, stratified_splits
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import RawDataset


@given(st.dictionaries(st.text(min_size=1), st.tuples(st.sampled_from("ab"), st.integers(1, 3)), min_size=2))
def test_folds_split_patients_evenly_and_never_a_patient(patients):
    strata = {patient: stratum for patient, (stratum, _) in patients.items()}
    cases = {patient: [f"{patient}/{number}" for number in range(count)] for patient, (_, count) in patients.items()}
    folds = stratified_splits(strata, cases)
    assert len(folds) == min(5, len(patients))
    everything = sorted(case for own in cases.values() for case in own)
    assert sorted(case for fold in folds for case in fold["val"]) == everything
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == everything
        patients_of = [{case.rpartition("/")[0] for case in fold[side]} for side in ("train", "val")]
        assert not patients_of[0] & patients_of[1]
    for stratum in "ab":
        shares = [
            len({case.rpartition("/")[0] for case in fold["val"] if strata[case.rpartition("/")[0]] == stratum})
            for fold in folds
        ]
        assert max(shares) - min(shares) <= 1


def test_one_patient_cannot_be_split():
    assert stratified_splits({"a": "x"}, {"a": ["a1", "a2"]}) == []


def patients(folder: Path, table: str) -> dict[str, str]:
    (folder / "cases.csv").write_text(table)
    return read_patients(RawDataset(folder, ("CT",), {"liver": (1,)}, frozenset({0, 1}), None, ".nii.gz"), ["a", "b"])


def test_a_table_names_the_patients_of_some_cases(tmp_path):
    assert patients(tmp_path, "case,patient,set\na,x,training\nb,,training\n") == {"a": "x", "b": "b"}


@pytest.mark.parametrize("table", ["case;patient\na;x\n", "case,subject\na,x\n", "name,patient\na,x\n"])
def test_a_table_without_patients_is_refused(tmp_path, table):
    with pytest.raises(InputError, match=r"cases\.csv: found the columns .*, expected case and patient, separated by"):
        patients(tmp_path, table)

import json
from pathlib import Path

import pytest
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.splits import ensure_splits, find_splits, generate_splits, with_unlabelled


@given(st.integers(2, 30), st.integers(0, 60))
def test_every_labelled_case_validates_once_and_no_other_ever(labelled: int, unlabelled: int) -> None:
    names = [f"labelled_{number}" for number in range(labelled)]
    missing = {f"case_{number}" for number in range(unlabelled)}
    splits = with_unlabelled(generate_splits(names), missing, {})
    assert len(splits) == min(5, labelled)
    assert sorted(case for split in splits for case in split["val"]) == sorted(names)
    for split in splits:
        assert missing <= set(split["train"])
        assert sorted([*split["train"], *split["val"]]) == sorted([*names, *missing])


def preprocessed(folder: Path, labelled: int, unlabelled: int) -> Path:
    """A dataset's folder as nnU-Net's preprocessing leaves it, as far as splits need it."""
    (folder / "data").mkdir()
    for number in range(labelled + unlabelled):
        (folder / "data" / f"case_{number:03d}.b2nd").touch()
        found = [[0, 1, 2, 3]] if number < labelled else []
        write_pickle({"class_locations": {(-1, 0, 1): found}}, str(folder / "data" / f"case_{number:03d}.pkl"))
    return folder


def test_made_splits_validate_on_labelled_cases_alone(tmp_path: Path) -> None:
    splits = find_splits(preprocessed(tmp_path, labelled=2, unlabelled=4), "data")
    assert not (tmp_path / "splits_final.json").exists()
    ensure_splits(tmp_path, "data")
    assert [split["val"] for split in splits] == [["case_001"], ["case_000"]]
    assert all(len(split["train"]) == 5 for split in splits)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == splits


def test_splits_that_are_there_stay(tmp_path: Path) -> None:
    splits = [{"train": ["case_000"], "val": ["case_001"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    ensure_splits(preprocessed(tmp_path, labelled=2, unlabelled=4), "data")
    assert find_splits(tmp_path, "data") == splits


def test_a_folder_without_preprocessed_cases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"data: not nnU-Net's preprocessed cases .*preprocess the dataset again"):
        ensure_splits(tmp_path, "data")


def test_a_single_labelled_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 4 cases are labelled, but cross-validation needs two"):
        ensure_splits(preprocessed(tmp_path, labelled=1, unlabelled=3), "data")
    assert not (tmp_path / "splits_final.json").exists()

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.training.missing_labels import balanced, cross_validation_splits, unlabelled_last

LABELLED, UNLABELLED = st.integers(2, 30), st.integers(0, 60)


def cases(labelled: int, unlabelled: int) -> tuple[list[str], set[str]]:
    names = [f"labelled_{number}" for number in range(labelled)]
    missing = {f"case_{number}" for number in range(unlabelled)}
    return sorted([*names, *missing]), missing


@given(LABELLED, UNLABELLED)
def test_every_labelled_case_validates_once_and_no_other_ever(labelled: int, unlabelled: int) -> None:
    names, missing = cases(labelled, unlabelled)
    splits = cross_validation_splits(names, missing)
    assert len(splits) == min(5, labelled)
    validated = [case for split in splits for case in split["val"]]
    assert sorted(validated) == sorted(set(names) - missing)
    for split in splits:
        assert missing <= set(split["train"])
        assert sorted([*split["train"], *split["val"]]) == names


@given(LABELLED, UNLABELLED)
def test_two_thirds_of_what_is_drawn_are_labelled(labelled: int, unlabelled: int) -> None:
    names, missing = cases(labelled, unlabelled)
    drawn = balanced(names, missing)
    assert set(drawn) == set(names)
    from_missing = sum(case in missing for case in drawn)
    assert from_missing == unlabelled
    assert from_missing <= len(drawn) / 3
    assert len({drawn.count(case) for case in names if case not in missing}) == 1
    if 2 * unlabelled > labelled:
        assert len(drawn) - labelled < 3 * from_missing


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_unlabelled_patches_go_to_the_end_and_lose_their_targets(deep_supervision: bool) -> None:
    number = torch.arange(6.0).reshape(6, 1, 1)
    target = [number, number + 10] if deep_supervision else number
    keys = np.array(["a", "none", "b", "none", "c", "a"])
    batch = unlabelled_last({"data": number, "target": target, "keys": keys}, {"none"}, patches=4)
    assert batch["keys"] == ["a", "b", "c", "a", "none", "none"]
    assert batch["data"].flatten().tolist() == [0, 2, 4, 5, 1, 3]
    levels = batch["target"] if deep_supervision else [batch["target"]]
    assert [level.flatten().tolist() for level in levels] == [[0, 2, 4, 5], [10, 12, 14, 15]][: len(levels)]

from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.training.missing_labels import balanced, cross_validation_splits

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
def test_half_of_what_is_drawn_is_labelled(labelled: int, unlabelled: int) -> None:
    names, missing = cases(labelled, unlabelled)
    drawn = balanced(names, missing)
    assert set(drawn) == set(names)
    from_missing = sum(case in missing for case in drawn)
    assert from_missing == unlabelled
    assert len(drawn) / 2 >= from_missing
    assert len({drawn.count(case) for case in names if case not in missing}) == 1
    if unlabelled > labelled:
        assert len(drawn) / 2 < from_missing + labelled

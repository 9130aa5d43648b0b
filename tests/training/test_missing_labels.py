from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from missu_nnunet.training.missing_labels import balanced, unlabelled_last

LABELLED, UNLABELLED = st.integers(2, 30), st.integers(0, 60)


def cases(labelled: int, unlabelled: int) -> tuple[list[str], set[str]]:
    names = [f"labelled_{number}" for number in range(labelled)]
    missing = {f"case_{number}" for number in range(unlabelled)}
    return sorted([*names, *missing]), missing


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
    assert batch["keys"] == ["a", "c", "b", "a", "none", "none"]
    assert batch["data"].flatten().tolist() == [5, 4, 2, 0, 3, 1]
    levels = batch["target"] if deep_supervision else [batch["target"]]
    assert [level.flatten().tolist() for level in levels] == [[5, 4, 2, 0], [15, 14, 12, 10]][: len(levels)]


@pytest.mark.parametrize(("patches", "mixed", "share"), [(2, 1, 0.33), (12, 6, 0.33), (3, 2, 0.66)])
def test_patches_with_a_target_are_sure_to_hold_foreground_as_often_as_without_unlabelled_cases(
    patches: int, mixed: int, share: float
) -> None:
    rng = np.random.default_rng(0)
    loader = SimpleNamespace(batch_size=patches + mixed, oversample_foreground_percent=share)
    sure = [nnUNetDataLoader._oversample_last_XX_percent(loader, patch) for patch in range(patches + mixed)]
    shares = []
    for _ in range(2000):
        keys = np.where(rng.random(patches + mixed) < 2 / 3, "labelled", "none")
        batch = {"data": torch.arange(patches + mixed), "target": torch.arange(patches + mixed), "keys": keys}
        batch = unlabelled_last(batch, {"none"}, patches)
        labelled = [key == "labelled" for key in batch["keys"][:patches]]
        shares.append(np.mean([sure[patch] and known for patch, known in zip(batch["target"], labelled, strict=True)]))
    assert np.mean(shares) > 0.9 * share

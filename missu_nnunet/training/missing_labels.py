"""Cases that nobody labelled: in no validation fold, and a third of what is drawn."""

from collections.abc import Collection, Sequence
from typing import Any

from missu_nnunet.nnunet.splits import Splits, generate_splits


def cross_validation_splits(cases: Sequence[str], unlabelled: Collection[str]) -> Splits:
    """nnU-Net's folds of the labelled cases; the unlabelled ones are in the training set of every fold.

    Args:
        cases: all cases, of which at least two are labelled.
        unlabelled: cases that nobody labelled.
    """
    splits = generate_splits([case for case in cases if case not in unlabelled])
    return [{"train": [*split["train"], *sorted(unlabelled)], "val": list(split["val"])} for split in splits]


def balanced(cases: Sequence[str], unlabelled: Collection[str]) -> list[str]:
    """The cases, labelled ones repeated, so that two thirds of what nnU-Net's loader draws are labelled, or more.

    The loader draws every entry of its list with the same probability.

    Args:
        cases: the training cases, at least one of them labelled.
        unlabelled: cases that nobody labelled; others may be named too.
    """
    labelled = [case for case in cases if case not in unlabelled]
    rest = [case for case in cases if case in unlabelled]
    return labelled * max(1, -(-2 * len(rest) // len(labelled))) + rest


def unlabelled_last(batch: dict[str, Any], unlabelled: Collection[str], patches: int) -> dict[str, Any]:
    """A batch of nnU-Net's loader, its patches of unlabelled cases behind the others, with targets of the first ones.

    Args:
        batch: images ``data``, ``target`` (a list, finest first, with deep supervision), and ``keys``, the cases.
        unlabelled: cases that nobody labelled.
        patches: so many, the first ones, keep a target.
    """
    order = sorted(range(len(batch["keys"])), key=lambda patch: batch["keys"][patch] in unlabelled)
    target, first = batch["target"], order[:patches]
    return batch | {
        "data": batch["data"][order],
        "target": [level[first] for level in target] if isinstance(target, list) else target[first],
        "keys": [batch["keys"][patch] for patch in order],
    }

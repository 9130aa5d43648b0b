"""Cases that nobody labelled are a third of what is drawn, and have no target."""

from collections.abc import Collection, Sequence
from typing import Any


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
    # The last first: those are the patches that nnU-Net's loader has made sure to hold foreground.
    order = sorted(reversed(range(len(batch["keys"]))), key=lambda patch: batch["keys"][patch] in unlabelled)
    target, first = batch["target"], order[:patches]
    return batch | {
        "data": batch["data"][order],
        "target": [level[first] for level in target] if isinstance(target, list) else target[first],
        "keys": [batch["keys"][patch] for patch in order],
    }

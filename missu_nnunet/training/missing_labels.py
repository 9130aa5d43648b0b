"""Cases that nobody labelled: in no validation fold, and drawn as often as the labelled ones."""

from collections.abc import Collection, Sequence

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
    """The cases, labelled ones repeated, so that half of what nnU-Net's loader draws from them is labelled, or more.

    The loader draws every entry of its list with the same probability.

    Args:
        cases: the training cases, at least one of them labelled.
        unlabelled: cases that nobody labelled; others may be named too.
    """
    labelled = [case for case in cases if case not in unlabelled]
    rest = [case for case in cases if case in unlabelled]
    return labelled * max(1, -(-len(rest) // len(labelled))) + rest

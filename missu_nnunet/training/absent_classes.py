"""Classes that a training does not learn at all."""

from collections.abc import Sequence

ABSENT_EPOCHS = 10
"""So many epochs in a row in which no voxel of a class was rightly predicted are worth a warning, and as many more."""


def absent_classes(dice: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the classes to warn about after the latest epoch.

    Args:
        dice: nnU-Net's pseudo-Dice of each epoch and class; it is 0 where no voxel of a class was rightly predicted,
            and NaN where there was none to predict.
    """
    absent = []
    for index in range(len(dice[-1])):
        length = next((length for length, epoch in enumerate(reversed(dice)) if epoch[index] != 0), len(dice))
        if length and length % ABSENT_EPOCHS == 0:
            absent.append(index)
    return absent

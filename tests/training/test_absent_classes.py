import math

import pytest

from missu_nnunet.training.absent_classes import ABSENT_EPOCHS, absent_classes

GOOD, NEVER = [0.5, 0.5], [0.5, 0.0]


@pytest.mark.parametrize(
    ("dice", "absent"),
    [
        ([GOOD], []),
        ([NEVER] * (ABSENT_EPOCHS - 1), []),
        ([NEVER] * ABSENT_EPOCHS, [1]),
        ([NEVER] * (ABSENT_EPOCHS + 1), []),
        ([NEVER] * 2 * ABSENT_EPOCHS, [1]),
        ([*[NEVER] * 3, GOOD, *[NEVER] * ABSENT_EPOCHS], [1]),
        ([*[NEVER] * (ABSENT_EPOCHS - 1), GOOD], []),
        ([[0.0, 0.0]] * ABSENT_EPOCHS, [0, 1]),
        ([[0.5, math.nan]] * ABSENT_EPOCHS, []),
    ],
)
def test_warns_after_so_many_epochs_in_a_row_and_again_after_as_many(
    dice: list[list[float]], absent: list[int]
) -> None:
    assert absent_classes(dice) == absent

import math

import numpy as np
import pytest

from missu_nnunet.evaluation.mask_pair import MaskPair
from missu_nnunet.evaluation.metrics import METRICS
from missu_nnunet.evaluation.protocols import BRATS, CHAOS, NNUNET

EMPTY = np.zeros((4, 4, 4), bool)
BLOCK = np.pad(np.ones((2, 2, 2), bool), 1)


def score(protocol, prediction, reference, metrics=METRICS):
    pair = MaskPair(prediction, reference, (1, 1, 1), protocol.outside_is_foreground)
    return protocol.score(pair, metrics, tolerance=1.0)


def test_brats_conventions():
    both = score(BRATS, EMPTY, EMPTY)
    assert (both["dice"], both["hd95"]) == (1, 0)
    assert math.isnan(both["sensitivity"])
    assert both["specificity"] == 1
    for sides in ((EMPTY, BLOCK), (BLOCK, EMPTY)):
        one = score(BRATS, *sides)
        assert (one["dice"], one["hd95"], one["nsd"]) == (0, 373.13, 0)
    # The distance is the diagonal of the challenge's images.
    assert one["hd95"] == pytest.approx(math.hypot(240, 240, 155), abs=0.01)


@pytest.mark.parametrize("protocol", [NNUNET, BRATS, CHAOS])
def test_a_case_that_nobody_labelled_has_no_score(protocol):
    pair = MaskPair(BLOCK, EMPTY, (1, 1, 1), protocol.outside_is_foreground, valid=EMPTY)
    assert all(math.isnan(value) for value in protocol.score(pair, METRICS, tolerance=1.0).values())


def test_nnunet_leaves_absent_classes_unscored():
    assert all(math.isnan(score(NNUNET, EMPTY, EMPTY)[metric]) for metric in ("dice", "hd95", "nsd", "ravd"))
    one = score(NNUNET, BLOCK, EMPTY)
    assert one["dice"] == 0
    assert math.isnan(one["hd95"])


def test_chaos_scores_only_what_the_reference_holds():
    metrics = METRICS
    assert all(math.isnan(value) for value in score(CHAOS, BLOCK, EMPTY, metrics).values())
    missed = score(CHAOS, EMPTY, BLOCK, metrics)
    assert (missed["dice"], missed["ravd"], missed["score"]) == (0, 100, 0)
    assert score(CHAOS, BLOCK, BLOCK, metrics)["score"] == 100

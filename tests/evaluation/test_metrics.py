"""The records of the metrics."""

import math

import numpy as np
import pytest

from missu_nnunet.evaluation.mask_pair import MaskPair
from missu_nnunet.evaluation.metrics import METRICS, chaos_score, offered_metrics
from missu_nnunet.evaluation.protocols import PROTOCOLS

REFERENCE = np.pad(np.ones((4, 4, 4), bool), 3)


def test_a_better_prediction_scores_better_by_every_metric():
    worse = MaskPair(np.roll(REFERENCE, 2, 0) | REFERENCE, REFERENCE, (1, 1, 1))
    perfect = MaskPair(REFERENCE, REFERENCE, (1, 1, 1))
    for metric in METRICS.values():
        gain = metric.value(perfect, 0.5) - metric.value(worse, 0.5)
        if metric.name != "sensitivity":  # both found all of it
            assert gain > 0 if metric.larger_is_better else gain < 0, metric.name


def test_tolerance_is_that_of_the_surface_distance():
    pair = MaskPair(np.roll(REFERENCE, 1, 0), REFERENCE, (1, 1, 1))
    assert METRICS["nsd"].value(pair, 0.5) < METRICS["nsd"].value(pair, 1.0) == 1


def test_every_protocol_reports_what_it_offers():
    for name, protocol in PROTOCOLS.items():
        assert set(protocol.metrics) <= set(offered_metrics(name))
    assert set(offered_metrics("chaos")) - set(offered_metrics("brats")) == {"score"}


def test_titles_have_units():
    assert [METRICS[name].title for name in ("dice", "hd95", "ravd")] == ["dice", "hd95 (mm)", "ravd (%)"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 0, 0, 0), 100),
        ((0.9, 2.5, 7.5, 30), (90 + 50 + 50 + 50) / 4),
        ((0.8, 5, 15, 60), (80 + 0 + 0 + 0) / 4),
        ((0.7999, 5.01, 15.01, 60.01), 0),
        ((0, 100, math.nan, math.nan), 0),
    ],
)
def test_chaos_score_by_the_organisers_thresholds(values, expected):
    assert chaos_score(*values) == pytest.approx(expected)

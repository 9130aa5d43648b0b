"""Charts that no other test covers."""

import numpy as np
import pytest

from missu_nnunet.evaluation.calibration import Reliability
from missu_nnunet.report.charts import calibration_charts


def curve(confidence: list[float], accuracy: list[float]) -> Reliability:
    return Reliability(np.array(confidence), np.array(accuracy), np.array([0.5, 0.5]))


def test_reliability_of_the_arms_that_are_calibrated() -> None:
    curves = {"before": curve([0.6, 0.9], [0.5, 0.7]), "after": curve([0.5, 0.7], [0.5, 0.7])}
    (chart,) = calibration_charts({"MISSU": curves, "U-Net": {}})
    diagonal, before, after = chart.figure.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert (before.line.dash, after.line.dash) == ("dash", "solid")
    assert list(after.y) == pytest.approx(list(after.x))
    assert [key.text for key in chart.legend] == ["MISSU", "before calibration", "after calibration"]
    assert "MISSU before 0.15" in chart.alternative


def test_no_chart_where_nothing_is_calibrated() -> None:
    assert calibration_charts({"MISSU": {}}) == []

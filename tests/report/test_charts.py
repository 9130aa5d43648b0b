"""Charts that no other test covers."""

import numpy as np
import pytest

from missu_nnunet.evaluation.calibration import Reliability
from missu_nnunet.report.charts import calibration_charts, training_charts
from missu_nnunet.report.training_curves import TrainingRun


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


def run_of(curves: dict[str, list[float]], **hyperparameters: object) -> TrainingRun:
    checkpoint = {"parameters": 1000, "missu": {"version": "0.1.0", "hyperparameters": hyperparameters}}
    return TrainingRun("0", None, curves, [], checkpoint, [])


def test_a_term_that_no_training_has_is_not_drawn() -> None:
    taught = {"seg_loss": [0.5, 0.2], "aux_loss": [0.0, 0.0], "kd_loss": [0.3, 0.1], "mean_fg_dice": [0.0, 0.0]}
    untaught = taught | {"kd_loss": [0.0, 0.0]}
    charts = {chart.title: chart for chart in training_charts({"A": [run_of(taught)], "B": [run_of(untaught)]})}
    terms = charts["Loss terms, unweighted"]
    assert [line.name for line in terms.figure.data] == [
        "A, fold 0, segmentation",
        "A, fold 0, distillation",
        "B, fold 0, segmentation",
    ]
    assert [key.text for key in terms.legend] == ["A", "B", "segmentation", "distillation"]
    assert len(charts["Pseudo Dice"].figure.data) == 2  # a Dice of 0 is a finding

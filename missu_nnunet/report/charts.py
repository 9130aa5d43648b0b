"""The page's charts as Plotly figures; the page sets the colours of text and grid, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations, groupby, product
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from missu_nnunet.evaluation.calibration import Reliability
from missu_nnunet.evaluation.comparison import Comparison, FloatArray
from missu_nnunet.evaluation.metrics import METRICS
from missu_nnunet.evaluation.results import Results
from missu_nnunet.pictures.colours import class_colours
from missu_nnunet.report.training_curves import CURVES, TrainingRun
from missu_nnunet.text import number

ARM_COLOURS = ("#3B7DD8", "#D0671B", "#2B8C5C", "#9B62C9", "#C2456B", "#7F7F2A")
"""Colours of the arms, whose contrast with the page's light and dark backgrounds is at least 3 (WCAG 1.4.11)."""

_PANELS = {
    "Loss": ("train_losses", "val_losses"),
    "Loss terms, unweighted": ("seg_loss", "aux_loss", "kd_loss"),
    "Pseudo Dice": ("mean_fg_dice", "ema_fg_dice"),
    "Learning rate": ("lrs",),
}
_OPTIONAL_TERMS = ("aux_loss", "kd_loss")  # zero throughout a training that has no such term
_DASHES = ("solid", "dot", "dash")
_SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up", "star")
_NEUTRAL = "#808890"


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a coloured box, or a line that is "solid", "dot" or "dash"."""

    text: str
    colour: str
    dash: str | None = None


@dataclass(frozen=True)
class Chart:
    """A chart: its heading, what it shows in words, its figure, and its legend, which the page draws beside it."""

    title: str
    alternative: str
    figure: go.Figure
    legend: list[Key]


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """Choose the colour of each arm."""
    return {arm: ARM_COLOURS[index % len(ARM_COLOURS)] for index, arm in enumerate(arms)}


def distribution_charts(results: Results) -> list[Chart]:
    """Draw every case's score by class and arm, one chart for each metric."""
    cases = results.cases
    charts = []
    for metric, arms in results.mean_scores.items():
        figure = _figure(boxmode="group", yaxis_title=METRICS[metric].title)
        for arm, colour in arm_colours(arms).items():
            scores = arms[arm]
            figure.add_box(
                x=[escape(name) for name in results.classes for _ in cases],
                y=scores.T.ravel(),
                text=[escape(case) for _ in results.classes for case in cases],
                name=escape(arm),
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                line={"color": colour, "width": 1.5},
                fillcolor=_pale(colour),
                marker={"size": 4, "opacity": 0.8},
                hovertemplate="%{text}<br>%{y:.4f}<extra>%{fullData.name}</extra>",
            )
        medians = "; ".join(f"{arm}: {_medians(results.classes, scores)}" for arm, scores in arms.items())
        alternative = f"Box plot of {metric} by class and arm. Medians: {medians}."
        charts.append(Chart(METRICS[metric].title, alternative, figure, _arm_keys(arms)))
    return charts


def paired_charts(results: Results) -> list[Chart]:
    """Draw one arm's scores against another's, case by case, one chart for each metric and pair of arms."""
    cases = [escape(case) for case in results.cases]
    colours = class_colours(results.labels)
    charts = []
    for metric, arms in results.mean_scores.items():
        for first, second in combinations(arms, 2):
            low, high = _range(np.concatenate([arms[first].ravel(), arms[second].ravel()]))
            # A square, in which equal scores lie at 45°
            figure = _figure(xaxis_title=_in_lines(second), yaxis_title=_in_lines(first))
            figure.update_xaxes(range=[low, high], constrain="domain")
            figure.update_yaxes(range=[low, high], constrain="domain", scaleanchor="x", title_standoff=12)
            line = {"dash": "dot", "width": 1.5, "color": _NEUTRAL}
            figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line=line, hoverinfo="skip")
            for column, class_ in enumerate(results.classes):
                figure.add_scatter(
                    x=arms[second][:, column],
                    y=arms[first][:, column],
                    text=cases,
                    mode="markers",
                    name=escape(class_),
                    marker={
                        "size": 8,
                        "color": colours[class_],
                        "symbol": _SYMBOLS[column % len(_SYMBOLS)],
                        "line": {"width": 1, "color": _NEUTRAL},
                    },
                    hovertemplate="%{text}<br>%{y:.4f} and %{x:.4f}<extra>%{fullData.name}</extra>",
                )
            above = int(np.sum(arms[first] > arms[second]))
            below = int(np.sum(arms[first] < arms[second]))
            charts.append(
                Chart(
                    f"{METRICS[metric].title}: {first} against {second}",
                    f"Scatter plot of {metric}, a point for each case and class, {first} upwards and {second} to the "
                    f"right: {above} points above the line of equal scores, {below} below.",
                    figure,
                    [Key(name, colour) for name, colour in colours.items()],
                )
            )
    return charts


def difference_charts(lines: Sequence[Comparison]) -> list[Chart]:
    """Draw the differences with their intervals, one chart for each metric and pair of arms; shown ones are filled."""
    charts = []
    drawn = [line for line in lines if not math.isnan(line.statistics.low)]  # an interval takes two cases
    for metric, lines_of_metric in groupby(drawn, key=lambda line: line.metric):
        of_metric = list(lines_of_metric)
        # Pairs are compared by eye: their charts have one scale.
        low, high = _range(
            np.array([end for line in of_metric for end in (line.statistics.low, line.statistics.high, 0)])
        )
        for (first, second), lines_of_pair in groupby(of_metric, key=lambda line: (line.first, line.second)):
            of_pair = list(lines_of_pair)
            values = [line.statistics for line in of_pair]
            figure = _figure(xaxis_title=f"{METRICS[metric].title}, first − second", height=90 + 34 * len(of_pair))
            figure.add_scatter(
                x=[value.difference for value in values],
                y=[_in_lines(line.scope, 18) for line in of_pair],
                mode="markers",
                error_x={
                    "type": "data",
                    "array": [value.high - value.difference for value in values],
                    "arrayminus": [value.difference - value.low for value in values],
                    "thickness": 2,
                    "width": 5,
                },
                marker={
                    "size": 11,
                    "color": ARM_COLOURS[0],
                    "symbol": ["circle" if line.shown else "circle-open" for line in of_pair],
                    "line": {"width": 2},
                },
                text=["<br>".join(wrap(escape(line.sentence()), 60)) for line in of_pair],
                hovertemplate="%{text}<extra></extra>",
            )
            figure.update_xaxes(range=[low, high])
            # Half a row of space above the first and below the last one, which is the lowest
            figure.update_yaxes(type="category", range=[len(of_pair) - 0.4, -0.6], showgrid=False)
            figure.add_vline(x=0, line={"dash": "dot", "width": 1.5, "color": _NEUTRAL})
            charts.append(
                Chart(
                    f"{METRICS[metric].title}: {first} − {second}, with {100 * (1 - of_pair[0].level):g} % intervals",
                    "; ".join(line.sentence() for line in of_pair),
                    figure,
                    [],
                )
            )
    return charts


def training_charts(trainings: Mapping[str, Sequence[TrainingRun]]) -> list[Chart]:
    """Draw curves over epochs: one chart each for the losses, the loss terms, the pseudo Dice and the learning rate."""
    charts = []
    for title, keys in _PANELS.items():
        figure = _figure(xaxis_title="epoch", yaxis_title=title.split(",")[0].lower())
        if max((run.epochs for runs in trainings.values() for run in runs), default=0) <= 10:
            figure.update_xaxes(dtick=1)  # no half epochs
        last, shown_arms, shown_keys = [], [], []
        for index, (arm, colour) in enumerate(arm_colours(trainings).items()):
            for run, (key, dash) in product(trainings[arm], zip(keys, _DASHES, strict=False)):
                values = np.array(run.curves.get(key, []))
                if not values.size or (key in _OPTIONAL_TERMS and not values.any()):
                    continue
                # Arms may have the same learning rate: the later ones are drawn on wider lines.
                width = 2 + 2.5 * (len(trainings) - 1 - index) if keys == ("lrs",) else 2
                figure.add_scatter(
                    x=list(range(len(values))),
                    y=values,
                    mode="lines+markers" if len(values) < 20 else "lines",
                    marker={"size": 4},
                    line={"color": colour, "dash": dash, "width": width},
                    name=f"{escape(arm)}, {escape(run.name)}, {CURVES[key]}",
                    hovertemplate="epoch %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
                )
                last.append(f"{arm} {run.name} {CURVES[key]} {number(float(values[-1]))}")
                shown_arms.append(arm)
                shown_keys.append(key)
        if last:
            arms = [key for key in _arm_keys(trainings) if key.text in shown_arms]
            styles = [
                Key(CURVES[key], _NEUTRAL, dash) for key, dash in zip(keys, _DASHES, strict=False) if key in shown_keys
            ]
            alternative = f"{title} by epoch. At the end: {'; '.join(last)}."
            charts.append(Chart(title, alternative, figure, arms + (styles if len(keys) > 1 else [])))
    return charts


def calibration_charts(reliabilities: Mapping[str, Mapping[str, Reliability]]) -> list[Chart]:
    """Draw accuracy over confidence before and after calibration; there is no chart where no arm is calibrated.

    Args:
        reliabilities: arm → "before" and "after" → reliability; empty for an arm that is not calibrated.
    """
    if not any(reliabilities.values()):
        return []
    figure = _figure(xaxis_title="confidence", yaxis_title="share of voxels that are right")
    line = {"dash": "dot", "width": 1.5, "color": _NEUTRAL}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, hoverinfo="skip")
    errors = []
    styles = {"before": "dash", "after": "solid"}
    for arm, colour in arm_colours(reliabilities).items():
        for name, curve in reliabilities[arm].items():
            figure.add_scatter(
                x=curve.confidence,
                y=curve.accuracy,
                mode="lines+markers",
                marker={"size": 4},
                line={"color": colour, "dash": styles[name], "width": 2},
                name=f"{escape(arm)}, {name}",
                hovertemplate="confidence %{x:.3f}: %{y:.3f}<extra>%{fullData.name}</extra>",
            )
            errors.append(f"{arm} {name} {number(curve.expected_calibration_error)}")
    keys = [key for key in _arm_keys(reliabilities) if reliabilities[key.text]]
    keys += [Key(f"{name} calibration", _NEUTRAL, dash) for name, dash in styles.items()]
    alternative = f"Accuracy by confidence. Expected calibration error: {'; '.join(errors)}."
    return [Chart("Reliability", alternative, figure, keys)]


def _arm_keys(arms: Iterable[str]) -> list[Key]:
    return [Key(arm, colour) for arm, colour in arm_colours(arms).items()]


def _pale(colour: str) -> str:
    """The colour as a background that points of the same colour are seen on."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgba({red}, {green}, {blue}, 0.2)"


def _in_lines(name: str, width: int = 30) -> str:
    """A long name in lines, broken at its underscores."""
    lines = wrap(name.replace("_", "_ "), width, break_on_hyphens=False)
    return "<br>".join(escape(line.replace("_ ", "_")) for line in lines)


def _range(values: FloatArray) -> tuple[float, float]:
    """A little more than the values take."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return 0.0, 1.0
    margin = 0.05 * float(np.ptp(defined)) or 0.05
    return float(defined.min()) - margin, float(defined.max()) + margin


def _medians(classes: Sequence[str], scores: FloatArray) -> str:
    return ", ".join(
        f"{class_} {number(float(np.nanmedian(column))) if not np.isnan(column).all() else '–'}"
        for class_, column in zip(classes, scores.T, strict=True)
    )


def _figure(**layout: Any) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 16, "t": 16, "b": 48},
        showlegend=False,
        height=380,
    )
    figure.update_layout(**layout)
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure

"""Writes the page's tables and charts as files for a paper: CSV and LaTeX, PDF and SVG."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from missu_nnunet.evaluation.comparison import Comparisons
from missu_nnunet.evaluation.metrics import METRICS
from missu_nnunet.evaluation.results import Results
from missu_nnunet.files import make_folder, whole_file, write_text
from missu_nnunet.pictures.figures import PLAIN_TEXT
from missu_nnunet.report.charts import Chart
from missu_nnunet.text import number, p_value

_MARKERS = {"circle": "o", "diamond": "D", "square": "s", "cross": "P", "triangle-up": "^", "star": "*"}
_DASHES: dict[str, Any] = {"solid": "-", "dot": ":", "dash": "--"}
# Text stays text, so that it can be searched and edited; the same input writes the same bytes.
_STYLE: Any = PLAIN_TEXT | {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "missu",
    "font.size": 8,
    "font.family": "sans-serif",
}


def write_tables(results: Results, comparisons: Comparisons | None, folder: Path) -> list[Path]:
    """Write the tables ``scores`` (every case) and ``summary`` and, for several arms, ``comparisons`` and ``ranking``.

    Each is a CSV file with all digits; ``summary`` and ``comparisons`` are also LaTeX tables as the page shows them,
    which need the package booktabs.

    Returns:
        The files written.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(folder)
    scores = [
        {"case": case, "arm": arm, "seed": seed, "class": name, "metric": metric, "value": values[metric]}
        for arm, runs in results.arms.items()
        for run in runs
        for seed in ("" if run.seed is None else run.seed,)
        for case, classes in run.cases.items()
        for name, values in classes.items()
        for metric in results.metrics
    ]
    tables = {"scores": pd.DataFrame(scores), "summary": _summary(results)}
    latex = {"summary": _summary_as_shown(results)}
    if comparisons:
        tables["comparisons"] = pd.DataFrame([line.as_dict() for line in comparisons.lines])
        latex["comparisons"] = _comparisons_as_shown(comparisons)
        tables["ranking"] = pd.DataFrame(
            [
                {"metric": ranking.metric, "arm": arm, "mean": ranking.means[arm], "rank": rank}
                | {f"rank {place} in": share for place, share in enumerate(ranking.shares[arm], 1)}
                for ranking in comparisons.rankings
                for arm, rank in ranking.ranks.items()
            ]
        )
    texts = {f"{name}.csv": table.to_csv(index=False) for name, table in tables.items()}
    texts |= {f"{name}.tex": _latex(table) for name, table in latex.items()}
    for name, text in texts.items():
        write_text(text, folder / name)
    return [folder / name for name in texts]


def _summary(results: Results) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"metric": metric, "arm": arm, "class": name} | values
            for metric, arms in results.summary().items()
            for arm, classes in arms.items()
            for name, values in classes.items()
        ]
    )


def _summary_as_shown(results: Results) -> pd.DataFrame:
    """A line for each metric and arm, a column for each class: mean ± standard deviation."""
    return pd.DataFrame(
        [
            {"metric": METRICS[metric].title, "arm": arm}
            | {name: f"{number(values['mean'], 3)}{_spread(values)}" for name, values in classes.items()}
            for metric, arms in results.summary().items()
            for arm, classes in arms.items()
        ]
    )


def _spread(values: dict[str, float]) -> str:
    """The standard deviation, which a single case does not have."""
    return f" ± {number(values['std'], 3)}" if values["n"] > 1 else ""


def _comparisons_as_shown(comparisons: Comparisons) -> pd.DataFrame:
    interval = f"{100 * (1 - comparisons.level):g} % interval"
    return pd.DataFrame(
        [
            {
                "metric": METRICS[line.metric].title,
                "arms": f"{line.first} − {line.second}",
                "class": line.scope,
                "difference": number(line.statistics.difference),
                interval: f"{number(line.statistics.low)} to {number(line.statistics.high)}",
                "p (Holm)": p_value(line.corrected_p),
                "effect": number(line.statistics.effect_size, 2),
                "cases": line.statistics.cases,
                "shown": "yes" if line.shown else "no",
            }
            for line in comparisons.lines
        ]
    )


def _latex(table: pd.DataFrame) -> str:
    """A tabular with LaTeX's own signs for those that pdfTeX does not know."""
    text: str = table.to_latex(index=False, escape=True)
    for sign, command in {"±": r"$\pm$", "−": r"$-$", "–": "--", "< ": r"$<$ "}.items():
        text = text.replace(sign, command)
    return text


def write_charts(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write each chart as PDF and as SVG, named after its title, or its beginning, with a number where it is taken.

    Returns:
        The files written.

    Raises:
        InputError: if the folder cannot be written.
    """
    make_folder(folder)
    written = []
    for name, chart in _named(charts).items():
        with rc_context(_STYLE):
            figure = _drawn(chart)
            for kind, when in (("pdf", "CreationDate"), ("svg", "Date")):
                written.append(folder / f"{name}.{kind}")
                with whole_file(written[-1]) as partial:
                    figure.savefig(partial, format=kind, metadata={when: None})
    return written


def _named(charts: Sequence[Chart]) -> dict[str, Chart]:
    """The charts by names that every file system takes and tells apart, whatever arms are called."""
    named: dict[str, Chart] = {}
    for chart in charts:
        plain = re.sub(r"\W+", "_", chart.title.replace("−", "minus")).strip("_").lower()
        short = plain.encode()[:100].decode(errors="ignore")
        names = itertools.chain([short], (f"{short}_{number}" for number in itertools.count(2)))
        named[next(name for name in names if name not in named)] = chart
    return named


def _drawn(chart: Chart) -> Figure:
    """The page's figure once more with Matplotlib, which needs no browser to write PDF and SVG."""
    layout = chart.figure.layout
    figure = Figure(figsize=(5.5, layout.height / 110), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    boxes = [trace for trace in chart.figure.data if trace.type == "box"]
    for index, trace in enumerate(boxes):
        _draw_boxes(axes, trace, (index + 0.5) / len(boxes) - 0.5, 0.7 / len(boxes))
    for trace in chart.figure.data:
        if trace.type == "scatter":
            _draw_scatter(axes, trace)
    for shape in layout.shapes:
        axes.axvline(shape.x0, color=shape.line.color, linestyle=_DASHES[shape.line.dash], linewidth=1)
    _set_axes(axes, layout)
    handles = [
        Line2D([], [], color=key.colour, linestyle=_DASHES[key.dash], label=key.text)
        if key.dash
        else Patch(color=key.colour, label=key.text)
        for key in chart.legend
    ]
    if handles:
        longest = max(len(key.text) for key in chart.legend)
        figure.legend(handles=handles, loc="outside lower center", ncols=max(1, 70 // (longest + 8)), frameon=False)
    axes.set_title(chart.title, fontsize=9, wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_boxes(axes: Axes, trace: Any, shift: float, width: float) -> None:
    """One arm's boxes, its points over them."""
    groups: dict[str, list[float]] = {}
    for name, value in zip(trace.x, trace.y, strict=True):
        groups.setdefault(unescape(name), [])
        if value == value:  # not NaN
            groups[unescape(name)].append(float(value))
    colour = trace.line.color
    places = [index + shift for index in range(len(groups))]
    axes.boxplot(
        list(groups.values()),
        positions=places,
        widths=width,
        showfliers=False,
        manage_ticks=False,
        boxprops={"color": colour},
        whiskerprops={"color": colour},
        capprops={"color": colour},
        medianprops={"color": colour, "linewidth": 2},
    )
    for place, values in zip(places, groups.values(), strict=True):
        spread = [place + width * (((37 * index) % 17) / 16 - 0.5) * 0.6 for index in range(len(values))]
        axes.plot(spread, values, ".", color=colour, markersize=3, alpha=0.7)
    axes.set_xticks(range(len(groups)), list(groups))


def _draw_scatter(axes: Axes, trace: Any) -> None:
    """Lines and points, with error bars along x where there are some; names on the y axis count from 0."""
    x, y = list(trace.x), list(trace.y)
    if y and isinstance(y[0], str):
        axes.set_yticks(range(len(y)), [_plain(name) for name in y])
        y = list(range(len(y)))
    colour = trace.line.color or trace.marker.color
    if "lines" in trace.mode:
        dashes = _DASHES[trace.line.dash or "solid"]
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=(trace.line.width or 2) / 1.6)
        return
    symbols = trace.marker.symbol
    symbols = [symbols] * len(x) if isinstance(symbols, str) else list(symbols)
    if trace.error_x.array is not None:
        errors = [list(trace.error_x.arrayminus), list(trace.error_x.array)]
        axes.errorbar(x, y, xerr=errors, fmt="none", ecolor=colour, capsize=3)
    for symbol in dict.fromkeys(symbols):
        at = [index for index, found in enumerate(symbols) if found == symbol]
        axes.plot(
            [x[index] for index in at],
            [y[index] for index in at],
            _MARKERS[symbol.removesuffix("-open")],
            color=colour,
            markerfacecolor="white" if symbol.endswith("-open") else colour,
            markersize=(trace.marker.size or 6) / 1.7,
        )


def _set_axes(axes: Axes, layout: Any) -> None:
    axes.set_xlabel(_plain(layout.xaxis.title.text or ""))
    axes.set_ylabel(_plain(layout.yaxis.title.text or ""))
    axes.grid(alpha=0.3, linewidth=0.5)
    for limits, axis in ((axes.set_xlim, layout.xaxis), (axes.set_ylim, layout.yaxis)):
        if axis.range:
            limits(*axis.range)
    if layout.xaxis.dtick == 1:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if layout.yaxis.scaleanchor:
        axes.set_aspect("equal")


def _plain(text: str) -> str:
    """Text for Matplotlib, which knows no markup of the web."""
    return unescape(text.replace("<br>", "\n"))

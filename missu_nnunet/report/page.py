"""The report's page: gathers what it shows, and fills the template."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.comparison import OVERALL, Comparison, Comparisons, compare_arms
from missu_nnunet.evaluation.metrics import METRICS
from missu_nnunet.evaluation.results import Results
from missu_nnunet.files import check_folder, write_text
from missu_nnunet.nnunet.dataset import DATASET_FILE, read_dataset
from missu_nnunet.nnunet.folders import model_folder
from missu_nnunet.nnunet.model import find_description
from missu_nnunet.pictures.colours import DIFFERENCES, IGNORED, class_colours, difference_colours, label_colours
from missu_nnunet.report.cases import ShownCase, choose_cases, image_folders, read_case
from missu_nnunet.report.charts import (
    Chart,
    arm_colours,
    calibration_charts,
    difference_charts,
    distribution_charts,
    paired_charts,
    training_charts,
)
from missu_nnunet.report.facts import arm_facts, dataset_name, versions
from missu_nnunet.report.paper import write_charts, write_tables
from missu_nnunet.report.stills import PictureRow, picture_rows
from missu_nnunet.report.training_curves import TrainingRun, read_training
from missu_nnunet.report.viewer import viewer_case
from missu_nnunet.text import counted, number, p_value
from missu_nnunet.weights.calibration import read_reliability


@dataclass(frozen=True)
class PicturedCase:
    """A case with its pictures and each arm's scores, in words."""

    shown: ShownCase
    scores: dict[str, str]
    rows: list[PictureRow]
    has_image: bool


@dataclass(frozen=True)
class _Content:
    """What the page shows.

    Attributes:
        results: the scores.
        comparisons: of several arms.
        trainings: arm → its folds' trainings.
        charts: section → its charts.
        images: folders in which the cases' images were looked for.
        pictured: the chosen cases with their pictures.
        viewer: the same cases for the viewer.
    """

    results: Results
    comparisons: Comparisons | None
    trainings: dict[str, list[TrainingRun]]
    charts: dict[str, list[Chart]]
    images: Sequence[Path]
    pictured: list[PicturedCase]
    viewer: list[dict[str, Any]]


def write_report(
    results: Results,
    output: Path,
    *,
    level: float,
    images: Sequence[Path],
    cases: Sequence[str],
    command: str,
    paper: Path | None = None,
) -> list[str]:
    """Write the page: one HTML file that needs no other.

    Args:
        results: results of one or several arms.
        output: the HTML file.
        level: significance level of the comparisons, see ``missu_nnunet.evaluation.comparison.compare_arms``.
        images: folders of the cases' images; where it is empty, those of the dataset in nnUNet_raw.
        cases: names of cases to show in addition to those that are chosen by their scores.
        command: command line that the page names as its origin.
        paper: folder for the tables and charts as files (``missu_nnunet.report.paper``).

    Returns:
        Names of the cases that are shown without an image, because none was found.

    Raises:
        InputError: if an image is unreadable or on another grid, or the file cannot be written.
    """
    check_output(output)
    content = _gather(results, level, images, cases)
    write_text(_fill_template(content, command), output)
    if paper:
        write_tables(results, content.comparisons, paper)
        write_charts([chart for group in content.charts.values() for chart in group], paper)
    return [case.shown.name for case in content.pictured if not case.has_image]


def check_output(output: Path) -> None:
    """Refuse a name that is not one of an HTML file, or whose folder takes none, before hours of scoring.

    Raises:
        InputError: if it is not.
    """
    if output.is_dir() or output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output}: expected the name of an HTML file to write, such as report.html")
    check_folder(output.parent)


def _gather(results: Results, level: float, images: Sequence[Path], cases: Sequence[str]) -> _Content:
    comparisons = compare_arms(results.scores, results.classes, level) if len(results.arms) > 1 else None
    trainings = {
        arm: [training for run in runs for training in read_training(run.folder)] for arm, runs in results.arms.items()
    }
    charts = {
        "difference": difference_charts(comparisons.lines) if comparisons else [],
        "distribution": distribution_charts(results),
        "paired": paired_charts(results),
        "training": training_charts(trainings),
        "calibration": calibration_charts(
            {arm: read_reliability(model_folder(run.folder.resolve())) for arm, run in results.first_runs.items()}
        ),
    }
    images = images or image_folders(results)
    pictured, viewer = _pictures(results, images, cases)
    return _Content(results, comparisons, trainings, charts, images, pictured, viewer)


def _fill_template(content: _Content, command: str) -> str:
    results, charts = content.results, content.charts
    arms = list(results.arms)
    datasets = dict.fromkeys(name for run in results.runs if (name := dataset_name(run.folder)))
    resources = files("missu_nnunet.report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("missu_nnunet.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "breakable": _breakable,
        "counted": counted,
        "number": number,
        "p_value": p_value,
        "titled": lambda metric: METRICS[metric].title,
    }
    return environment.get_template("page.html").render(
        arms=arms,
        arm_colours=arm_colours(arms),
        cases=results.cases,
        charts=charts,
        class_colours=class_colours(results.labels) | ({} if results.ignore is None else {"ignored": IGNORED}),
        command=command,
        comparisons=content.comparisons,
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        dataset=", ".join(datasets),
        differences=DIFFERENCES,
        facts={
            arm: arm_facts(run.folder, [training for training in content.trainings[arm] if training.seed == run.seed])
            for arm, run in results.first_runs.items()
        },
        figures_json=_json(
            {
                f"{group}-{index}": chart.figure.to_dict()
                for group, found in charts.items()
                for index, chart in enumerate(found)
            }
        ),
        headlines=_headlines(content.comparisons),
        mean_cases={arm: results.mean_cases(arm) for arm in arms},
        nan=math.nan,
        several_seeds=any(len(runs) > 1 for runs in results.arms.values()),
        images=[str(folder) for folder in content.images],
        overall=OVERALL,
        pictured=content.pictured,
        plotly=Markup(get_plotlyjs()),
        results=results,
        script=Markup((resources / "page.js").read_text(encoding="utf-8")),
        style=Markup((resources / "page.css").read_text(encoding="utf-8")),
        summary=results.summary(),
        trainings=content.trainings,
        versions=versions(),
        viewer_json=_json(
            {
                "cases": content.viewer,
                "colours": label_colours(results.labels, results.ignore),
                "differences": difference_colours(),
                "ignore": results.ignore,
            }
        ),
    )


def _json(content: Any) -> Markup:
    """For a script element: nothing in it may end the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _breakable(text: str) -> Markup:
    """Names of trainers and folders are long: lines may break at their underscores and slashes."""
    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(text))))


def _headlines(comparisons: Comparisons | None) -> list[Comparison]:
    """The lines that answer the question: of the mean of the classes, or of the only class."""
    if not comparisons:
        return []
    lines = [line for line in comparisons.lines if line.scope == OVERALL]
    return lines or comparisons.lines


def _pictures(
    results: Results, images: Sequence[Path], wanted: Sequence[str]
) -> tuple[list[PicturedCase], list[dict[str, Any]]]:
    """The chosen cases' pictures, and the same cases for the viewer."""
    channel_names = _channel_names(results)
    metric = results.metrics[0]
    arrays = results.mean_scores[metric]
    names = results.cases
    pictured, viewer = [], []
    for shown in choose_cases(results, wanted):
        volumes = read_case(results, shown.name, images, channel_names)
        row = names.index(shown.name)
        scores = {
            arm: ", ".join(
                f"{name} {number(value, 3)}" for name, value in zip(results.classes, scores[row], strict=True)
            )
            for arm, scores in arrays.items()
        }
        rows = picture_rows(shown.name, volumes, results.labels, results.ignore)
        pictured.append(PicturedCase(shown, scores, rows, bool(volumes.channels)))
        viewer.append(viewer_case(volumes, results.labels))
    return pictured, viewer


def _channel_names(results: Results) -> tuple[str, ...]:
    for run in results.runs:
        if file := find_description(DATASET_FILE, run.folder):
            return read_dataset(file.parent).channels
    return ()

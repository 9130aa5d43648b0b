"""``missu evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.options import (
    AsJson,
    CsvFile,
    Dataset,
    MetricNames,
    ProtocolName,
    Tolerance,
    Workers,
    parse_dataset,
    parse_scoring,
)
from missu_nnunet.cli.output import check_streams, write_rows
from missu_nnunet.errors import InputError
from missu_nnunet.terminal import print_json, show, table
from missu_nnunet.text import counted, number

if TYPE_CHECKING:
    from missu_nnunet.evaluation.folders import Evaluation


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PRED", help="Folder of predicted segmentations.")],
    references: Annotated[Path, typer.Argument(metavar="REF", help="Folder of reference segmentations.")],
    dataset: Dataset = None,
    metrics: MetricNames = None,
    protocol: ProtocolName = "nnunet",
    tolerance: Tolerance = 1.0,
    chill: Annotated[
        bool, typer.Option("--chill", help="Score the existing predictions, even if some are missing.")
    ] = False,
    as_json: AsJson = False,
    csv: CsvFile = None,
    *,
    workers: Workers,
) -> None:
    """Score predicted segmentations, per case and class or region: mean ± standard deviation and median."""
    check_streams(as_json, csv)
    from missu_nnunet.evaluation.folders import evaluate_folders
    from missu_nnunet.evaluation.results import common_dataset

    rules, wanted = parse_scoring(protocol, metrics)
    result = evaluate_folders(
        predictions,
        references,
        rules,
        dataset=parse_dataset(dataset) or common_dataset([predictions]),
        metrics=wanted,
        tolerance=tolerance,
        chill=chill,
        workers=workers,
    )
    if not result.classes:
        raise InputError(
            f"{references}: only background in the references of all cases, expected classes; name them with --dataset"
        )
    if csv:
        write_rows(result.rows(), csv)
    if as_json:
        print_json(result.content())
    elif str(csv) != "-":
        _show(result)


def _show(result: Evaluation) -> None:
    from missu_nnunet.evaluation.metrics import METRICS

    scores = table(("class", "metric"), ("mean ± std", "median", "cases scored"))
    for name, by_metric in result.summary().items():
        for row, (metric, values) in enumerate(by_metric.items()):
            scores.add_row("" if row else name, METRICS[metric].title, *_statistics(values), f"{values['n']:g}")
        scores.add_section()
    for row, (metric, mean) in enumerate(result.foreground_mean().items()):
        scores.add_row("" if row else "mean of classes", metric, number(mean), "", "", style="bold")
    show(scores, f"protocol {result.protocol.name}, {counted(len(result.cases), 'case')}")


def _statistics(values: dict[str, float]) -> tuple[str, str]:
    """Mean and median; the mean has a standard deviation where there are several cases."""
    spread = f" ± {values['std']:.4f}" if values["n"] > 1 else ""
    return number(values["mean"]) + spread, number(values["median"])

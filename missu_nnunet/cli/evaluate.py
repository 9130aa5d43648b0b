"""`missu evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.scoring import MetricNames, ProtocolName, Tolerance, Workers, parse_scoring

if TYPE_CHECKING:
    from rich.table import Table

    from missu_nnunet.evaluation.folders import Evaluation


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PRED", help="Folder of predicted segmentations.")],
    references: Annotated[Path, typer.Argument(metavar="REF", help="Folder of reference segmentations.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Whose classes and regions to score: a dataset's folder, dataset.json, name or ID in nnUNet_raw."
        ),
    ] = None,
    metrics: MetricNames = None,
    protocol: ProtocolName = "nnunet",
    tolerance: Tolerance = 1.0,
    chill: Annotated[
        bool, typer.Option("--chill", help="Score the predictions there are, though some are missing.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write every value and the summary to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per case and class to this file.")] = None,
    workers: Workers = None,
) -> None:
    """Score predicted segmentations, per case and class or region: mean ± standard deviation and median."""
    from missu_nnunet.evaluation.folders import evaluate_folders
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset
    from missu_nnunet.parallel import default_workers

    rules, wanted = parse_scoring(protocol, metrics)
    result = evaluate_folders(
        predictions,
        references,
        rules,
        dataset=read_dataset(find_dataset(dataset)) if dataset else None,
        metrics=wanted,
        tolerance=tolerance,
        chill=chill,
        workers=workers or default_workers(),
    )
    if json:
        result.write_json(json)
    if csv:
        result.write_csv(csv)

    from rich.console import Console

    Console().print(_table(result))


def _table(result: Evaluation) -> Table:
    from rich.table import Table

    from missu_nnunet.evaluation.metrics import UNITS

    table = Table(title=f"protocol {result.protocol.name}, {len(result.cases)} cases")
    for column in ("class", "metric", "mean ± std", "median", "cases scored"):
        table.add_column(column, justify="left" if column in ("class", "metric") else "right")
    for name, by_metric in result.summary().items():
        for row, (metric, values) in enumerate(by_metric.items()):
            unit = f" ({UNITS[metric]})" if metric in UNITS else ""
            spread, median = f"{values['mean']:.4f} ± {values['std']:.4f}", f"{values['median']:.4f}"
            cells = (spread, median) if values["n"] else ("–", "–")
            table.add_row("" if row else name, metric + unit, *cells, str(values["n"]))
        table.add_section()
    for row, (metric, mean) in enumerate(result.foreground_mean().items()):
        table.add_row(
            "" if row else "mean of classes", metric, "–" if math.isnan(mean) else f"{mean:.4f}", style="bold"
        )
    return table

"""`missu compare`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.scoring import MetricNames, ProtocolName, Tolerance, Workers, parse_scoring
from missu_nnunet.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from missu_nnunet.evaluation.comparison import Comparisons


def compare(
    arms: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C…]",
            help="Two or more folders: of trained models (Trainer__Plans__configuration: the validation cases of all "
            "folds), of single folds, or of predictions.",
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of reference segmentations. Otherwise the one that nnU-Net's summary.json names."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Whose classes and regions to score: a dataset's folder, dataset.json, name or ID in nnUNet_raw. "
            "Otherwise those of the dataset.json beside the model or the predictions."
        ),
    ] = None,
    metrics: MetricNames = None,
    protocol: ProtocolName = "nnunet",
    tolerance: Tolerance = 1.0,
    level: Annotated[
        float, typer.Option(help="Probability of declaring any difference between arms that do not differ.")
    ] = 0.05,
    json: Annotated[Path | None, typer.Option(help="Write everything, each case's scores included.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line per comparison to this file.")] = None,
    workers: Workers = None,
) -> None:
    """Say which arm of an experiment is better, case by case: differences, intervals, tests, ranking.

    Each metric adds comparisons, and the correction for their number.
    """
    from missu_nnunet.evaluation.comparison import compare_arms
    from missu_nnunet.evaluation.results import gather_results, write_comparison_csv, write_comparison_json
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset
    from missu_nnunet.parallel import default_workers

    if len(arms) < 2:
        raise InputError(f"{arms[0]}: a single folder, expected two or more to compare; give another one")
    if not 0 < level < 1:
        raise InputError(f"--level {level:g}: expected a probability between 0 and 1, such as 0.05")
    rules, wanted = parse_scoring(protocol, metrics)
    results = gather_results(
        arms,
        rules,
        references=reference,
        dataset=read_dataset(find_dataset(dataset)) if dataset else None,
        metrics=wanted,
        tolerance=tolerance,
        workers=workers or default_workers(),
    )
    comparisons = compare_arms(results.arrays(), results.classes, level)
    if json:
        write_comparison_json(results, comparisons, json)
    if csv:
        write_comparison_csv(comparisons, csv)

    from rich.console import Console

    console = Console(markup=False, highlight=False)  # names may hold brackets
    for table in _comparison_tables(comparisons):
        console.print(table)
    if comparisons.rankings:
        console.print(_ranking_table(comparisons))
    for line in comparisons.lines:
        console.print(line.sentence(), soft_wrap=True)
    if warning := comparisons.warning():
        console.print(f"\n{warning}", style="bold", soft_wrap=True)


def _comparison_tables(comparisons: Comparisons) -> Iterator[Table]:
    """A table for each metric and pair of arms."""
    from missu_nnunet.evaluation.comparison import number, p_value
    from missu_nnunet.evaluation.metrics import UNITS

    interval = f"{100 * (1 - comparisons.level):g} % interval"
    for (metric, first, second), lines in groupby(
        comparisons.lines, key=lambda line: (line.metric, line.first, line.second)
    ):
        unit = f" ({UNITS[metric]})" if metric in UNITS else ""
        table = _table(f"{metric}{unit}: {first} − {second}", ("class",))
        for column in ("difference", interval, "p (Holm)", "effect", "+/=/−", "cases"):
            table.add_column(column, justify="right", no_wrap=True)
        for line in lines:
            values = line.statistics
            table.add_row(
                line.scope,
                number(values.difference),
                f"{number(values.low)} to {number(values.high)}",
                p_value(line.corrected_p),
                number(values.effect_size, 2),
                f"{values.wins}/{values.ties}/{values.losses}",
                str(values.cases),
                style="bold" if line.shown else None,
            )
        yield table


def _ranking_table(comparisons: Comparisons) -> Table:
    from missu_nnunet.evaluation.comparison import number

    table = _table("ranking, and in how many resamples of the cases an arm has each rank", ("metric", "arm"))
    possible = range(1, len(comparisons.rankings[0].ranks) + 1)
    for column in ("mean", "rank", *(f"rank {rank} in" for rank in possible)):
        table.add_column(column, justify="right", no_wrap=True)
    for ranking in comparisons.rankings:
        for name, rank in ranking.ranks.items():
            shares = (f"{share:.0%}" for share in ranking.shares[name])
            table.add_row(ranking.metric, name, number(ranking.means[name]), str(rank), *shares)
    return table


def _table(title: str, text_columns: tuple[str, ...]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # Narrow enough for 80 columns; names that are too long go on in the next line.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in text_columns:
        table.add_column(column, overflow="fold")
    return table

"""``missu compare``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from missu_nnunet.cli.options import (
    AsJson,
    CsvFile,
    Dataset,
    Level,
    MetricNames,
    ProtocolName,
    Reference,
    Results,
    Tolerance,
    Workers,
    check_level,
    parse_dataset,
    parse_scoring,
)
from missu_nnunet.cli.output import check_streams, write_rows
from missu_nnunet.errors import InputError
from missu_nnunet.terminal import print_json, say, show, table
from missu_nnunet.text import number, p_value

if TYPE_CHECKING:
    from missu_nnunet.evaluation.comparison import Comparisons


def compare(
    results: Results,
    reference: Reference = None,
    dataset: Dataset = None,
    metrics: MetricNames = None,
    protocol: ProtocolName = "nnunet",
    tolerance: Tolerance = 1.0,
    level: Level = 0.05,
    as_json: AsJson = False,
    csv: CsvFile = None,
    *,
    workers: Workers,
) -> None:
    """Say which of several models or predictions is better, case by case: differences, intervals, tests, ranking.

    Each of RESULTS is an arm; the seeds of missu crossval --seeds are one together. Each metric adds comparisons, and
    the correction for their number. The JSON holds each case's scores too, the CSV one line per comparison.
    """
    check_streams(as_json, csv)
    check_level(level)
    if len(results) < 2:
        raise InputError(f"{results[0]}: a single folder, expected two or more to compare; give another one")
    from missu_nnunet.evaluation.comparison import compare_arms
    from missu_nnunet.evaluation.results import comparison_content, gather_results, group_seeds

    if len(group_seeds(results)) < 2:
        raise InputError(
            f"{results[0]}: all are seeds of one arm, expected two arms to compare; give another one's too"
        )
    rules, wanted = parse_scoring(protocol, metrics)
    found = gather_results(
        results,
        rules,
        references=reference,
        dataset=parse_dataset(dataset),
        metrics=wanted,
        tolerance=tolerance,
        workers=workers,
    )
    comparisons = compare_arms(found.scores, found.classes, level)
    if csv:
        write_rows([line.as_dict() for line in comparisons.lines], csv)
    if as_json:
        print_json(comparison_content(found, comparisons))
    elif str(csv) != "-":
        _show(comparisons)


def _show(comparisons: Comparisons) -> None:
    _show_differences(comparisons)
    if comparisons.rankings:
        _show_rankings(comparisons)
    for line in comparisons.lines:
        say(line.sentence())
    if warning := comparisons.warning():
        say()
        say(warning, style="bold")


def _show_differences(comparisons: Comparisons) -> None:
    """A table for each metric and pair of arms."""
    from missu_nnunet.evaluation.metrics import METRICS

    # Of one training of each arm there is none to show.
    known = any(not math.isnan(line.statistics.seed_std_difference) for line in comparisons.lines)
    noise = ["seed noise"] if known else []
    interval = f"{100 * (1 - comparisons.level):g} % interval"
    for lines in comparisons.by_pair():
        differences = table(("class",), ("difference", interval, "p (Holm)", "effect", "+/=/−", "cases", *noise))
        for line in lines:
            values = line.statistics
            differences.add_row(
                line.scope,
                number(values.difference),
                f"{number(values.low)} to {number(values.high)}",
                p_value(line.corrected_p),
                number(values.effect_size, 2),
                f"{values.wins}/{values.ties}/{values.losses}",
                values.cases,
                *([number(values.seed_std_difference)] if noise else []),
                style="bold" if line.shown else None,
            )
        show(differences, f"{METRICS[lines[0].metric].title}: {lines[0].first} − {lines[0].second}")


def _show_rankings(comparisons: Comparisons) -> None:
    possible = range(1, len(comparisons.rankings[0].ranks) + 1)
    rankings = table(("metric", "arm"), ("mean", "rank", *(f"rank {rank} in" for rank in possible)))
    for ranking in comparisons.rankings:
        for name, rank in ranking.ranks.items():
            shares = (f"{share:.0%}" for share in ranking.shares[name])
            rankings.add_row(ranking.metric, name, number(ranking.means[name]), rank, *shares)
    show(rankings, "ranking, and in how many resamples an arm has each rank")

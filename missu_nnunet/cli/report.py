"""``missu report``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from missu_nnunet.cli.options import (
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
from missu_nnunet.errors import InputError
from missu_nnunet.files import check_folder
from missu_nnunet.terminal import say
from missu_nnunet.text import size


def report(
    results: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    reference: Reference = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the cases' images. Otherwise imagesTr and imagesTs of the dataset in nnUNet_raw."),
    ] = None,
    dataset: Dataset = None,
    metrics: MetricNames = None,
    protocol: ProtocolName = "nnunet",
    tolerance: Tolerance = 1.0,
    level: Level = 0.05,
    case: Annotated[
        list[str] | None, typer.Option(help="A case to show beside the worst, the median and the best; repeatable.")
    ] = None,
    paper: Annotated[
        Path | None,
        typer.Option(help="Also write the tables (CSV, LaTeX) and the charts (PDF, SVG) into this folder."),
    ] = None,
    *,
    workers: Workers,
) -> None:
    """Write one page with all results: verdicts, training curves, distributions, pictures, a viewer, plans.

    Each metric adds comparisons, and the p-values are corrected for their number.
    """
    check_level(level)
    rules, wanted = parse_scoring(protocol, metrics)
    if images and not images.is_dir():
        raise InputError(f"--images {images}: no such folder; give that of the cases' images")
    from missu_nnunet.evaluation.results import gather_results
    from missu_nnunet.report.page import check_output, write_report

    check_output(output)
    if paper:
        check_folder(paper)
    found = gather_results(
        results,
        rules,
        references=reference,
        dataset=parse_dataset(dataset),
        metrics=wanted,
        tolerance=tolerance,
        wanted=case or [],
        workers=workers,
    )
    without_image = write_report(
        found,
        output,
        level=level,
        images=[images] if images else [],
        cases=case or [],
        command=shlex.join(["missu", *sys.argv[1:]]),
        paper=paper,
    )
    if without_image:
        say(
            f"no image found of {', '.join(without_image)}: drawn on grey; set nnUNet_raw to the folder of the raw "
            "datasets, or give --images FOLDER"
        )
    say(f"{output}: {size(output.stat().st_size)}, open it in a browser")
    if paper:
        say(f"{paper}: tables and charts for a paper")

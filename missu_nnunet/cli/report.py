"""`missu report`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from missu_nnunet.cli.evaluate import parse_scoring
from missu_nnunet.errors import InputError


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS…",
            help="One or more folders: of trained models (Trainer__Plans__configuration: the validation cases of all "
            "folds), of single folds, or of predictions.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of reference segmentations. Otherwise the one that nnU-Net's summary.json names."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the cases' images. Otherwise imagesTr and imagesTs of the dataset in nnUNet_raw."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Whose classes and regions to score: a dataset's folder, dataset.json, name or ID in nnUNet_raw. "
            "Otherwise those of the dataset.json beside the model or the predictions."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: dice, hd95, assd, mssd, ravd, nsd, sensitivity, specificity. "
            "Otherwise what the protocol reports. Each adds comparisons, and the correction for their number."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="Whose conventions: nnunet, brats or chaos.")] = "nnunet",
    tolerance: Annotated[float, typer.Option(min=0, help="Tolerance of nsd in mm.")] = 1.0,
    level: Annotated[
        float, typer.Option(help="Probability of declaring any difference between arms that do not differ.")
    ] = 0.05,
    case: Annotated[
        list[str] | None, typer.Option(help="A case to show beside the worst, the median and the best; repeatable.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-np", min=1, help="Processes.")] = None,
) -> None:
    """Write one page with everything: verdicts, training curves, distributions, pictures, a viewer, plans."""
    if not 0 < level < 1:
        raise InputError(f"--level {level:g}: expected a probability between 0 and 1, such as 0.05")
    rules, wanted = parse_scoring(protocol, metrics)
    if images and not images.is_dir():
        raise InputError(f"--images {images}: no such folder; give that of the cases' images")
    try:
        from missu_nnunet.report.page import check_output, write_report
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed, which the report needs: pip install 'missu-nnunet[report]'"
        ) from error
    from missu_nnunet.evaluation.results import gather_results
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset
    from missu_nnunet.parallel import default_workers

    check_output(output)
    found = gather_results(
        results,
        rules,
        references=reference,
        dataset=read_dataset(find_dataset(dataset)) if dataset else None,
        metrics=wanted,
        tolerance=tolerance,
        workers=workers or default_workers(),
    )
    write_report(
        found,
        output,
        level=level,
        images=[images] if images else [],
        cases=case or [],
        command=shlex.join(["missu", *sys.argv[1:]]),
    )
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, open it in a browser")

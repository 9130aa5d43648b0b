"""The options and arguments that several commands share, and the checks of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.metrics import offered_metrics
from missu_nnunet.parallel import default_workers

if TYPE_CHECKING:
    from missu_nnunet.evaluation.protocols import Protocol
    from missu_nnunet.nnunet.dataset import RawDataset

AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON, to standard output; undefined values are null.")]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write the table to this file as CSV; - prints it.")
]
Workers = Annotated[
    int,
    typer.Option("--workers", "-np", min=1, default_factory=default_workers, show_default=False, help="Processes."),
]

PlansFile = Annotated[
    Path, typer.Argument(metavar="PLANS", help="Plans file of nnU-Net, with the dataset's dataset.json beside it.")
]
Configuration = Annotated[str, typer.Option("--configuration", "-c", help="Configuration of the plans.")]


def _trust(packages: list[str] | None) -> None:
    if packages:
        from missu_nnunet.nnunet.names import trust

        trust(packages)


Trusted = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        callback=_trust,
        metavar="PACKAGE",
        help="Your own package, whose networks plans may name; importing it runs its code. Repeatable.",
    ),
]

Results = Annotated[
    list[Path],
    typer.Argument(
        metavar="RESULTS…",
        help="Folders: of trained models (Trainer__Plans__configuration: the validation cases of all folds), of "
        "single folds, or of predictions. Those of several seeds (seed_0/…, seed_1/…) are one arm.",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(help="Folder of reference segmentations. Otherwise the folder that nnU-Net's summary.json names."),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help="Dataset whose classes and regions are scored: its folder, dataset.json, name or ID in nnUNet_raw. "
        "Otherwise the dataset.json beside the model or the predictions.",
    ),
]
ProtocolName = Annotated[str, typer.Option("--protocol", help="Conventions to follow: nnunet, brats or chaos.")]
MetricNames = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help=f"Comma-separated: {', '.join(offered_metrics())}. Otherwise those that the protocol reports.",
    ),
]
Tolerance = Annotated[float, typer.Option(min=0, help="Tolerance of nsd in mm.")]
Level = Annotated[
    float, typer.Option(help="Significance level of all comparisons together; intervals cover 1 minus it.")
]


def parse_scoring(protocol: str, metrics: str | None) -> tuple[Protocol, list[str]]:
    """Check the options --protocol and --metrics; without metrics, the list is empty.

    Raises:
        InputError: if one of them is unknown.
    """
    from missu_nnunet.evaluation.protocols import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: unknown, expected one of {', '.join(PROTOCOLS)}")
    rules = PROTOCOLS[protocol]
    offered = offered_metrics(protocol)
    wanted = list(dict.fromkeys(name.strip() for name in metrics.split(","))) if metrics else []
    if unknown := [name for name in wanted if name not in offered]:
        raise InputError(f"--metrics {unknown[0]}: unknown, expected some of {', '.join(offered)}")
    return rules, wanted


def parse_dataset(dataset: str | None) -> RawDataset | None:
    """Read the dataset that the option --dataset names.

    Raises:
        InputError: if there is no such dataset, or its dataset.json cannot be used.
    """
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset

    return read_dataset(find_dataset(dataset)) if dataset else None


def check_level(level: float) -> None:
    """Check the option --level.

    Raises:
        InputError: if it is not a probability.
    """
    if not 0 < level < 1:
        raise InputError(f"--level {level:g}: expected a probability between 0 and 1, such as 0.05")

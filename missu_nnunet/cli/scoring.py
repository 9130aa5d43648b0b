"""Options of the commands that score segmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.errors import InputError

if TYPE_CHECKING:
    from missu_nnunet.evaluation.protocols import Protocol

ProtocolName = Annotated[str, typer.Option("--protocol", help="Whose conventions: nnunet, brats or chaos.")]
MetricNames = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Comma-separated: dice, hd95, assd, mssd, ravd, nsd, sensitivity, specificity. "
        "Otherwise what the protocol reports.",
    ),
]
Tolerance = Annotated[float, typer.Option(min=0, help="Tolerance of nsd in mm.")]
Workers = Annotated[int | None, typer.Option("--workers", "-np", min=1, help="Processes.")]


def parse_scoring(protocol: str, metrics: str | None) -> tuple[Protocol, list[str]]:
    """The options --protocol and --metrics; no metrics stand for the protocol's own.

    Raises:
        InputError: one of them is unknown.
    """
    from missu_nnunet.evaluation.metrics import METRICS
    from missu_nnunet.evaluation.protocols import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: unknown, expected one of {', '.join(PROTOCOLS)}")
    rules = PROTOCOLS[protocol]
    offered = (*METRICS, "score") if rules.has_score else METRICS
    wanted = [name.strip() for name in metrics.split(",")] if metrics else []
    if unknown := [name for name in wanted if name not in offered]:
        raise InputError(f"--metrics {unknown[0]}: unknown, expected some of {', '.join(offered)}")
    return rules, wanted

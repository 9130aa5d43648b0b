"""``missu benchmark``: what MISSU costs beside nnU-Net's network."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.options import AsJson, Configuration, PlansFile, Trusted
from missu_nnunet.errors import InputError, is_out_of_memory
from missu_nnunet.terminal import print_json, say, show, table, waiting
from missu_nnunet.text import first_line

if TYPE_CHECKING:
    from missu_nnunet.network_costs import Cost


def benchmark(
    plans: PlansFile,
    configuration: Configuration = "3d_fullres",
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or cuda:N; CUDA runs under AMP. Default: the GPU, or else the CPU."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Measurements of each network.")] = 5,
    as_json: AsJson = False,
    trust: Trusted = None,
) -> None:
    """Time MISSU and the plan's own U-Net side by side: forward pass, training step, memory."""
    import torch

    from missu_nnunet.network_costs import measure_plan

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).item()  # the device "meta" has no values
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: not usable here ({first_line(error)}); give cpu") from None
    try:
        with waiting("measuring"):
            costs = measure_plan(plans, configuration, torch.device(device), rounds)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"{plans}: {configuration} does not fit into the memory of {device}; plan it smaller, or measure it on "
            "another device"
        ) from None
    if as_json:
        print_json([asdict(cost) for cost in costs])
    else:
        _show(costs, device)


def _show(costs: list[Cost], device: str) -> None:
    """A column for each network: so the table fits into 80 characters."""
    from missu_nnunet.network_costs import ratio

    first = costs[0]
    measured = table(("",), [cost.name for cost in costs])
    measured.add_row("parameters", *(f"{cost.parameters:,}" for cost in costs))
    measured.add_row("GMAC", *(f"{cost.macs / 1e9:.1f}" for cost in costs))
    measured.add_row("forward [ms]", *(f"{median(cost.forward) * 1000:.0f}" for cost in costs))
    measured.add_row("÷ first", *(ratio(cost.forward, first.forward) for cost in costs))
    measured.add_row("step [ms]", *(f"{median(cost.step) * 1000:.0f}" for cost in costs))
    measured.add_row("÷ first", *(ratio(cost.step, first.step) for cost in costs))
    measured.add_row("memory [MiB]", *(f"{cost.training_bytes / 2**20:.0f}" for cost in costs))
    show(measured)
    say(f"On {device}: medians of the rounds; ratios by round with a 95 % interval; a patch forward, a batch per step.")

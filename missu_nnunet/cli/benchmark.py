"""``missu benchmark``: what MISSU costs beside nnU-Net's network."""

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table


def benchmark(
    plans: Path = typer.Argument(help="Plans file of nnU-Net, with the dataset's dataset.json beside it."),
    configuration: str = typer.Option("3d_fullres", "-c", help="Configuration of the plan."),
    device: str = typer.Option("cpu", help="cpu, cuda or cuda:N; CUDA runs under AMP."),
    rounds: int = typer.Option(5, min=2, help="Measurements of each network."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with every round's seconds."),
) -> None:
    """Time MISSU and the plan's own U-Net side by side: forward pass, training step, memory."""
    import torch

    from missu_nnunet.benchmark import measure_plan, ratio
    from missu_nnunet.errors import InputError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: not usable here ({str(error).splitlines()[0]}); give cpu") from None
    costs = measure_plan(plans, configuration, torch.device(device), rounds)
    if as_json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
        return
    table = Table("network", "parameters", "GMAC", "forward [ms]", "× first", "step [ms]", "× first", "memory [MiB]")
    for cost in costs:
        seconds = [sorted(times)[len(times) // 2] * 1000 for times in (cost.forward, cost.step)]
        table.add_row(
            cost.name,
            f"{cost.parameters:,}",
            f"{cost.macs / 1e9:.1f}",
            f"{seconds[0]:.0f}",
            str(ratio(cost.forward, costs[0].forward)),
            f"{seconds[1]:.0f}",
            str(ratio(cost.step, costs[0].step)),
            f"{cost.training_bytes / 2**20:.0f}",
        )
    Console().print(table)
    print("Medians of the rounds; ratios round by round with a 95 % interval; a patch forward, a batch per step.")

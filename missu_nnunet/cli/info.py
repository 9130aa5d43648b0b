"""``missu info``: the network that a plan gives."""

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table


def info(
    plans: Path = typer.Argument(help="Plans file of nnU-Net, with the dataset's dataset.json beside it."),
    configuration: str = typer.Option("3d_fullres", "-c", help="Configuration of the plan."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show the network that MISSUTrainer builds from a plan: stages, Transformer, parameters, operations, memory."""
    from missu_nnunet.planning.summary import summarise

    summary = summarise(plans, configuration)
    if as_json:
        print(json.dumps(asdict(summary), indent=2))
        return
    console = Console()
    stages = Table("stage", "channels", "stride", "kernel", "voxels", title=f"{summary.plans_name} {configuration}")
    for index, stage in enumerate(summary.stages):
        cells = (stage["channels"], *("×".join(map(str, stage[key])) for key in ("stride", "kernel_size", "size")))
        stages.add_row(str(index), *map(str, cells))
    console.print(stages)
    transformer = ", ".join(f"{key} {value}" for key, value in summary.transformer.items())
    dropped = summary.plan_stages - len(summary.stages)
    facts = Table(show_header=False)
    facts.add_row("patch, batch", f"{'×'.join(map(str, summary.patch_size))}, {summary.batch_size}")
    facts.add_row("Transformer", f"behind stage {len(summary.stages) - 1}, {summary.tokens} tokens; {transformer}")
    facts.add_row("stages of the plan that gave way to it", str(dropped))
    facts.add_row("parameters at inference", f"{summary.parameters:,}")
    facts.add_row("multiply-accumulates per patch", f"{summary.macs / 1e9:.2f} G")
    facts.add_row("training memory under AMP (estimate)", f"{summary.training_bytes / 2**30:.2f} GiB")
    console.print(facts)

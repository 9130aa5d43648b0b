"""``missu demo``."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def demo(
    out: Annotated[Path, typer.Option(help="The demo's folder: new, empty, or of an earlier demo.")] = Path(
        "missu-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic dataset.")] = 0,
) -> None:
    """Run nnU-Net's whole chain with MISSU on a synthetic dataset, on the CPU, in about three minutes.

    A second run continues where the first one stopped.
    """
    from missu_nnunet.demo import Demo

    # Command lines are to be copied: no wrapping, no markup.
    console = Console(soft_wrap=True, highlight=False)
    demo = Demo(out, seed)
    steps = demo.steps()
    for name, value in demo.environment.items():
        console.print(f"export {name}={shlex.quote(value)}", style="dim", markup=False)
    console.print(f"[bold]phantoms[/]: two-channel volumes with three structures, seed {seed}")
    demo.write_phantoms()
    for step in steps:
        console.print(f"[bold]{step.name}[/]", end=": ")
        if demo.is_finished(step.name):
            console.print("finished earlier")
            continue
        console.print(shlex.join(step.command), markup=False)
        if step.name == "train":
            _show_training(console, demo.run(step))
        else:
            with console.status(f"see {demo.log(step)}"):
                for _ in demo.run(step):
                    pass
    demo.draw_overlays()
    _print_dice(console, demo.dice())
    for name, path in (
        ("predictions", demo.predictions),
        ("overlays", demo.overlays),
        ("training", demo.model / "progress.png"),
        ("logs", demo.folder / "logs"),
    ):
        console.print(f"{name + ':':<13}{path}", markup=False)


def _show_training(console: Console, lines: Iterator[str]) -> None:
    """A bar over the epochs with the latest mean pseudo Dice, from the lines of nnU-Net's training."""
    from missu_nnunet.demo import EPOCHS
    from missu_nnunet.nnunet.log import EPOCH, PSEUDO_DICE, values_of_line

    columns = (
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=EPOCHS)
        for line in lines:
            values = values_of_line(line)
            if EPOCH in values:
                progress.update(task, completed=int(values[EPOCH]))
            if PSEUDO_DICE in values:
                progress.update(task, advance=1, description=f"mean pseudo Dice {values[PSEUDO_DICE]:.3f}")


def _print_dice(console: Console, cases: dict[str, dict[str, float]]) -> None:
    dice = {name: [scores[name] for scores in cases.values()] for name in next(iter(cases.values()))}
    table = Table(title="Dice of the held-out cases")
    for column in ("structure", "mean", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "structure" else "right")
    means = {name: sum(values) / len(values) for name, values in dice.items()}
    for name, values in dice.items():
        table.add_row(name, *(f"{value:.3f}" for value in (means[name], min(values), max(values))))
    table.add_section()
    table.add_row("mean", f"{sum(means.values()) / len(means):.3f}", "", "", style="bold")
    console.print(table)

"""``missu demo``."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from missu_nnunet.terminal import Words, literal, progress_bar, say, show, table, waiting


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder of the demo: a new or empty one, or that of an earlier demo.")
    ] = Path("missu-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic dataset.")] = 0,
) -> None:
    """Run nnU-Net's whole chain with MISSU on a synthetic dataset, on the CPU, in a few minutes.

    A second run continues where the first one stopped.
    """
    from missu_nnunet.demo import Demo

    demo = Demo(out, seed)
    steps = demo.steps()
    for name, value in demo.environment.items():
        say(f"export {name}={shlex.quote(value)}", style="dim")
    say(literal("phantoms", "bold"), f": two-channel volumes with three structures, seed {seed}")
    demo.write_phantoms()
    for step in steps:
        finished = demo.is_finished(step.name)
        say(literal(step.name, "bold"), ": ", "finished earlier" if finished else shlex.join(step.command))
        if finished:
            continue
        if step.name == "train":
            _show_training(demo.run(step))
        else:
            with waiting(f"see {demo.log(step)}"):
                for _ in demo.run(step):
                    pass
    demo.draw_overlays()
    demo.write_report()
    _show_dice(demo.dice())
    for name, path in (
        ("predictions", demo.predictions),
        ("overlays", demo.overlays),
        ("training", demo.fold.folder / "progress.png"),
        ("report", demo.report),
        ("logs", demo.folder / "logs"),
    ):
        say(f"{name + ':':<13}{path}")


def _show_training(lines: Iterator[str]) -> None:
    """A bar over the epochs with the latest mean pseudo Dice, from the lines of nnU-Net's training."""
    from rich.progress import BarColumn, TimeElapsedColumn

    from missu_nnunet.demo import EPOCHS
    from missu_nnunet.nnunet.log import EPOCH, PSEUDO_DICE, values_of_line

    columns = (
        Words("epoch {task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        Words("{task.description}"),
    )
    with progress_bar(*columns) as progress:
        task = progress.add_task("starting", total=EPOCHS)
        for line in lines:
            values = values_of_line(line)
            if EPOCH in values:
                progress.update(task, completed=int(values[EPOCH]))
            if PSEUDO_DICE in values:
                progress.update(task, advance=1, description=f"mean pseudo Dice {values[PSEUDO_DICE]:.3f}")


def _show_dice(cases: dict[str, dict[str, float]]) -> None:
    dice = {name: [case[name] for case in cases.values()] for name in next(iter(cases.values()))}
    scores = table(("structure",), ("mean", "lowest", "highest"))
    means = {name: sum(values) / len(values) for name, values in dice.items()}
    for name, values in dice.items():
        scores.add_row(name, *(f"{value:.3f}" for value in (means[name], min(values), max(values))))
    scores.add_section()
    scores.add_row("mean", f"{sum(means.values()) / len(means):.3f}", "", "", style="bold")
    show(scores, "Dice of the held-out cases")

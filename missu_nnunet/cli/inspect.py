"""``missu inspect``: what a checkpoint holds, read without running it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def inspect(
    file: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT|ZIP", help="A checkpoint, or a model of nnUNetv2_export_model_to_zip."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a checkpoint or an exported model holds; refuse, with exit code 2, what would run code."""
    from missu_nnunet.weights.inspection import inspect_file

    inspections = inspect_file(file)
    if as_json:
        print(json.dumps([asdict(inspection) for inspection in inspections], indent=2, default=str))
        return
    console = Console()
    for inspection in inspections:
        table = Table(title=Text(inspection.name), show_header=False)
        for name, value in asdict(inspection).items():
            if name == "bytes":
                for part, size in value.items():
                    table.add_row(f"size of {part}", f"{size / 2**20:.2f} MiB")
            elif isinstance(value, dict):
                settings = ", ".join(f"{key} {_text(setting)}" for key, setting in value.items())
                table.add_row(name.replace("_", " "), _text(settings or None))
            elif name != "name":
                table.add_row(name.replace("_", " "), _text(value))
        console.print(table)


def _text(value: object) -> Text:
    """The value as plain text: what a stranger wrote is neither markup nor a word to the terminal."""
    from missu_nnunet.nnunet.checkpoint import printable

    if value is None:
        return Text("–")
    if isinstance(value, float):
        return Text(f"{value:.4g}")
    return Text(f"{value:,}" if type(value) is int else printable(str(value)))

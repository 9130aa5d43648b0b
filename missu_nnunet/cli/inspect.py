"""``missu inspect``: what a checkpoint holds, read without running it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from missu_nnunet.cli.options import AsJson, Trusted
from missu_nnunet.terminal import print_json, show, table


def inspect(
    file: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT|ZIP", help="A checkpoint, or a model of nnUNetv2_export_model_to_zip."),
    ],
    as_json: AsJson = False,
    trust: Trusted = None,
) -> None:
    """Show what a checkpoint or an exported model holds; refuse, with exit code 2, what would run code."""
    from missu_nnunet.weights.inspection import inspect_file

    inspections = inspect_file(file)
    if as_json:
        print_json([asdict(inspection) for inspection in inspections])
        return
    for inspection in inspections:
        facts = table(("", ""), header=False)
        for name, value in asdict(inspection).items():
            if name == "bytes":
                for part, size in value.items():
                    facts.add_row(f"size of {part}", f"{size / 2**20:.2f} MiB")
            elif isinstance(value, dict):
                settings = ", ".join(f"{key} {_text(setting)}" for key, setting in value.items())
                facts.add_row(name.replace("_", " "), settings or "–")
            elif name != "name":
                facts.add_row(name.replace("_", " "), _text(value))
        show(facts, inspection.name)


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)

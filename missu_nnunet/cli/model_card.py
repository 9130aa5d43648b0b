"""``missu model-card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from missu_nnunet.terminal import say


def model_card(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("README.md"),
) -> None:
    """Write a model card, in the form of the Hugging Face Hub, from plans, scores and versions.

    What no file says is marked for you to fill in: licence, authors, where the data come from.
    """
    from missu_nnunet.files import check_is_new, write_text
    from missu_nnunet.report.model_card import model_card

    check_is_new(output)
    write_text(model_card(model), output)
    say(f"{output}: fill in what is marked [More Information Needed]")

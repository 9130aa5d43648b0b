"""Prints to the terminal, and shows untrusted text literally.

A label, a case or a file may be called ``[/b]`` or ``[link=…]``, or hold escape characters. No text printed here is
read as markup, or reaches the terminal as a control sequence. Where the output is a pipe or a file, no line is folded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.status import Status
from rich.table import Table
from rich.text import Text

from missu_nnunet.text import printable

_NARROWEST_TEXT = 12
"""The least width in characters of a column of text, which a narrow terminal folds; numbers are never folded."""

_UNLIMITED = 100_000


def literal(value: object, style: str = "") -> Text:
    """Turn any value into plain text, without markup and control characters."""
    return value if isinstance(value, Text) else Text(printable(str(value)), style)


def say(*parts: object, style: str = "") -> None:
    """Print one line to standard output, unfolded, so that commands and paths can be copied from it."""
    _console().print(Text.assemble(*map(literal, parts)), style=style, soft_wrap=True)


def print_json(content: Any) -> None:
    """Print a value as JSON to standard output; NaN and infinities, which JSON lacks, become null."""
    finite = json.loads(json.dumps(content, default=str), parse_constant=lambda name: None)
    _console().out(json.dumps(finite, indent=2), highlight=False)


class LiteralTable(Table):
    """A table whose cells may hold anything; made by ``table``."""

    def add_row(self, *cells: Any, style: Any = None, end_section: bool = False) -> None:
        """Add a row; the cells are shown as ``literal`` shows them."""
        super().add_row(*map(literal, cells), style=style, end_section=end_section)


def table(text_columns: Sequence[str], number_columns: Sequence[str] = (), *, header: bool = True) -> LiteralTable:
    """Make an empty table, to be filled and printed with ``show``.

    Args:
        text_columns: headings of the columns at the left, which a narrow terminal folds.
        number_columns: headings of the columns at the right, which are never folded or cut.
        header: whether the headings are shown.
    """
    made = LiteralTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, show_header=header)
    for name in text_columns:
        made.add_column(literal(name), overflow="fold")
    for name in number_columns:
        made.add_column(literal(name), justify="right", no_wrap=True)
    return made


def show(table: LiteralTable, title: str = "") -> None:
    """Print a table below its title. It may be wider than the terminal: no number is cut."""
    if title:
        say(title, style="bold")
    width = _console().width if _console().is_terminal else _UNLIMITED
    _new_console(width=max(width, _least_width(table))).print(table, crop=False)
    say()


def _least_width(table: Table) -> int:
    """Characters that the numbers need beside folded text."""
    least = 0
    for column in table.columns:
        width = max(literal(cell).cell_len for cell in (column.header, *column.cells))
        least += (width if column.no_wrap else min(width, _NARROWEST_TEXT)) + 3
    return least


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Make a progress bar, which only a terminal shows; ``Words`` are its columns of text."""
    console = _live_console()
    return Progress(*columns, console=console, disable=not console.is_terminal)


class Words(ProgressColumn):
    """A column of a progress bar that shows plain text, formatted from its ``task``."""

    def __init__(self, text_format: str) -> None:
        super().__init__()
        self._format = text_format

    def render(self, task: Task) -> Text:
        """Return the current text."""
        return literal(self._format.format(task=task))


def waiting(text: str) -> Status:
    """Make a line with a spinner, which only a terminal shows; update it with ``literal``."""
    return _live_console().status(literal(text))


def _live_console() -> Console:
    """Where something may move: in the stream that lines go to, so that they do not collide, if that is a terminal."""
    return _console() if _console().is_terminal else _console(errors=True)


@cache
def _console(errors: bool = False) -> Console:
    return _new_console(stderr=errors)


def _new_console(**settings: Any) -> Console:
    return Console(markup=False, highlight=False, emoji=False, **settings)

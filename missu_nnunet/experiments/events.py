"""What happens in an experiment, and how to say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """Something that happened to a training or an accumulation; a ``failed`` one is left unfinished.

    Attributes:
        name: of the training or accumulation.
        kind: what.
        text: the command line of a started one, the outcome of the others.
    """

    name: str
    kind: Literal["skipped", "started", "finished", "failed"]
    text: str


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"

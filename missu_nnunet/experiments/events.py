"""What happens in an experiment, and how to say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """Something that happened to a training or an accumulation; a ``failed`` one is left unfinished.

    Attributes:
        name: name of the training or accumulation.
        kind: what happened.
        text: the command line of a started one, the outcome of the others.
    """

    name: str
    kind: Literal["skipped", "started", "finished", "failed"]
    text: str

"""Ending a training in order before its last epoch: on request, or when it has learned enough."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STOP_FILE = "stop"
"""A file of this name in the fold's folder ends the training after the epoch, as if it had been the last."""


class EarlyEnd(Exception):  # noqa: N818, nothing went wrong
    """Leaves nnU-Net's loop over the epochs; its text is the reason."""


class Termination:
    """Whether this process was asked to terminate.

    Attributes:
        requested: a SIGTERM has arrived, which a cluster sends some time before it kills.
    """

    def __init__(self) -> None:
        self.requested = False
        self._process = os.getpid()

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: remember it here; a process that was forked from this one ends by it as usual."""
        if os.getpid() == self._process:
            self.requested = True
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def termination_noted() -> Iterator[Termination]:
    """Within the block SIGTERM ends nothing, and is noted."""
    termination = Termination()
    before = signal.signal(signal.SIGTERM, termination.note)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_file_found(fold: Path) -> bool:
    """Whether somebody asked for the end with a stop file, which is removed: it is meant for this training alone."""
    file = fold / STOP_FILE
    found = file.exists()
    file.unlink(missing_ok=True)
    return found


def epochs_without_improvement(values: Sequence[float]) -> int:
    """Epochs since the best one, of a value per epoch of which larger is better; 0 while there is none."""
    return len(values) - 1 - values.index(max(values)) if values else 0

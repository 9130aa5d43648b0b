"""Ending a training in order before its last epoch: on request, or when it has learned enough."""

import mmap
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
        self._over = mmap.mmap(-1, 1)  # memory that forked processes share

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: remember it here; a process that was forked from this one ends by it when all is over.

        A cluster may send it to all processes of a job, and the epoch still needs its loaders.
        """
        if os.getpid() == self._process:
            self.requested = True
        elif self._over[0]:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def end(self) -> None:
        """From here on the signal ends processes that were forked from this one."""
        self._over[0] = 1


@contextmanager
def termination_noted() -> Iterator[Termination]:
    """Within the block SIGTERM ends nothing, and is noted."""
    termination = Termination()
    before = signal.signal(signal.SIGTERM, termination.note)
    try:
        yield termination
    finally:
        termination.end()
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

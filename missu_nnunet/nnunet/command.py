"""Runs nnU-Net's commands: their output goes to a log, and each log has one command at a time.

A command ends with the process that started it, however that process ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from missu_nnunet.errors import InputError

_PATIENCE = 15.0
"""Seconds to wait for a command that is being killed because the process that started it was."""


def nnunet_command(name: str) -> str:
    """Find a command such as ``nnUNetv2_train`` beside this Python: the first on the PATH may be another environment's.

    Raises:
        InputError: if it is not there.
    """
    folder = Path(sys.executable).parent
    command = shutil.which(name, path=str(folder))
    if command is None:
        raise InputError(
            f"{name}: not found in {folder}; install nnU-Net there: {sys.executable} -m pip install nnunetv2"
        )
    return command


def require_posix() -> None:
    """Make sure that commands can be run from here.

    Raises:
        InputError: if this is neither Linux nor macOS.
    """
    if os.name != "posix":
        raise InputError(
            "this needs Linux or macOS: it locks the logs of nnU-Net's commands, and ends them by their process group"
        )


def command_line(command: Sequence[str], variables: Mapping[str, str]) -> str:
    """The command as a shell takes it.

    Args:
        command: its name and arguments.
        variables: environment variables that it is given.
    """
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)])


class BusyError(InputError):
    """Another process runs a command with the same log."""


class LoggedCommand:
    """A running command, which holds the lock on its log until its last process has ended.

    Args:
        command: name of one of nnU-Net's commands, or path of another, and its arguments.
        log: the open log, from ``locked_log``.
        variables: environment variables in addition to those of this process.

    Attributes:
        line: the command line with the variables, as a shell takes it.
        started: time of the start, as ``time.monotonic`` gives it.
    """

    def __init__(self, command: Sequence[str], log: IO[str], variables: Mapping[str, str]) -> None:
        program, *arguments = command
        self.line = command_line(command, variables)
        self.started = time.monotonic()
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} $ {self.line}\n")
        log.flush()
        self._log, self._start = Path(log.name), log.tell()
        path = program if os.path.isabs(program) else nnunet_command(program)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "missu_nnunet.nnunet.leash", path, *arguments],
            stdin=subprocess.PIPE,  # closes when this process ends, however it does
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | variables | {"PYTHONUNBUFFERED": "1"},
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for the end and return the exit code; an exception meanwhile, such as Ctrl-C, kills the command."""
        try:
            return self._process.wait()
        finally:
            self.stop()

    def lines(self) -> Generator[str, None, None]:
        """Yield each line that the command prints; closing the generator early kills the command."""
        try:
            with self._log.open(encoding="utf-8", errors="replace") as log:
                log.seek(self._start)
                line, ended = "", False
                while not ended:
                    ended = self.poll() is not None  # asked first: all that it printed is there then
                    while part := log.readline():
                        line += part
                        if line.endswith("\n"):
                            yield line
                            line = ""
                    if not ended:
                        time.sleep(0.1)
        finally:
            self.stop()

    def stop(self) -> None:
        """Kill the command if it runs, and wait until it has ended."""
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def locked_log(path: Path) -> Iterator[IO[str]]:
    """Open a log to append to it, with a lock that commands inherit which are started with it as their output.

    File systems without locks do without.

    Raises:
        BusyError: if another process holds the lock and keeps it.
        InputError: if this is neither Linux nor macOS.
    """
    require_posix()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(log):
            if time.monotonic() > deadline:
                raise BusyError(f"{path}: another process is writing there; wait until it has ended, or stop it")
            time.sleep(0.2)
        yield log


def is_locked(path: Path) -> bool:
    """Whether a command writes to the log now, on this machine or, where the file system has locks, on another."""
    import fcntl  # which Windows lacks

    try:
        with path.open() as log:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def _try_lock(log: IO[str]) -> bool:
    import fcntl

    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True

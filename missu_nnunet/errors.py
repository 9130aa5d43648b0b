"""The error that a user can act on, and how a process ends with it."""

import errno
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import NoReturn

from missu_nnunet.text import printable

_LONGEST_WORD = 500

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_REMEDIES = {
    errno.ENOENT: "look for a typing error",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the link that leads back to itself",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
} | dict.fromkeys(DISK_FULL, "make room there, or choose another place")


class InputError(ValueError):
    """An error in what the user gave.

    The message is one line that names the file or argument, what was found, what was expected and the remedy. The
    ``missu`` command prints it without a traceback and exits with code 2.
    """


class PlanError(InputError):
    """An error in a plan, in the words of what only sees its numbers: whoever knows the plan's file names it."""


def is_about_a_path(error: OSError) -> bool:
    """Whether the error concerns a file or folder, so that the user can act on it."""
    return isinstance(error.filename, str | bytes | os.PathLike) or error.errno in DISK_FULL


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused, to Python or NumPy, or to torch, whose CPU allocator raises a ``RuntimeError``."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    )


def end_with(error: InputError | OSError) -> NoReturn:
    """End this process with one line on standard error and exit code 2.

    Args:
        error: an ``InputError``, or an ``OSError`` that ``is_about_a_path``.
    """
    text = _of_system(error) if isinstance(error, OSError) else str(error)
    words = (_shortened(word) for word in re.split("[\n ]", text))  # a library's reason may have several lines
    print("missu:", printable(" ".join(words)), file=sys.stderr)
    sys.exit(2)


def _of_system(error: OSError) -> str:
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    remedy = _REMEDIES.get(error.errno or 0, "give another file or folder")
    return f"{place}{(error.strerror or type(error).__name__).lower()}; {remedy}"


def _shortened(word: str) -> str:
    """A word of thousands of characters, such as a name that no system takes, by its beginning."""
    return word if len(word) <= _LONGEST_WORD else f"{word[:100]}… ({len(word)} characters)"


def end_on_input_error() -> None:
    """Let an ``InputError`` that nobody catches end this process as it ends ``missu``: one line, exit code 2.

    This is for nnU-Net's commands, whose code is not ours. Other exceptions, and those in an interactive session, are
    reported as before.
    """
    if getattr(sys.excepthook, "func", None) is not _report:
        sys.excepthook = partial(_report, sys.excepthook)


def _report(
    otherwise: Callable[..., object], kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not isinstance(error, InputError) or hasattr(sys, "ps1"):
        otherwise(kind, error, traceback)
        return
    end_with(error)

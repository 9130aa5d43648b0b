"""The error that a user can act on."""

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import NoReturn


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the file or argument, what was found, what was expected and the remedy. The
    ``missu`` command prints it without a traceback and exits with code 2.
    """


def end_with(error: InputError) -> NoReturn:
    """End this process with the error's line on standard error and exit code 2."""
    print("missu:", " ".join(str(error).splitlines()), file=sys.stderr)  # a library's reason may have several lines
    sys.exit(2)


def end_on_input_error() -> None:
    """Make an :class:`InputError` that nobody catches end this process as it ends ``missu``: one line, exit code 2.

    For nnU-Net's commands, whose code is not ours. It stays an ordinary exception until then; all others, and all in
    an interactive session, are reported as before.
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

"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from missu_nnunet.errors import InputError

PARTIAL = ".partial-"
"""What the name of a file being written starts with."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise InputError(f"{path}: no such folder, and it cannot be made ({reason}); choose another place") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the name of `path` when the block ends well and vanishes otherwise.

    Raises:
        InputError: `path` cannot be written. An OSError of the block about something else remains what it is.
    """
    partial = path.with_name(PARTIAL + path.name)
    make_folder(path.parent)
    partial.unlink(missing_ok=True)  # of a run that was killed
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.errno in _DISK_FULL or error.filename == str(partial):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); make room there, or choose another place"
            ) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(content: bytes | memoryview, path: Path) -> None:
    """Write `content`, whole or not at all, even if the machine loses power.

    Raises:
        InputError: see :func:`whole_file`.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(content: Any, path: Path) -> None:
    """Write `content` as JSON, whole or not at all; NaN is not JSON and must have become None before.

    Raises:
        InputError: see :func:`whole_file`.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Args:
        path: the file.
        remedy: what the message advises where it cannot be read.

    Raises:
        InputError: it is missing, cannot be read, is not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a JSON {type(content).__name__}, expected an object; {remedy}")
    return content

"""Writes files atomically, and reads only what is a regular file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import re
import stat
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from missu_nnunet.errors import DISK_FULL, InputError

PARTIAL = ".partial-"
"""The start of the name of a file that is being written."""

ABANDONED_AFTER = 3600
"""The seconds after which a file that another machine was writing is taken for one that was left."""

MAX_TEXT_BYTES = 2**28
"""The largest text that is read, in bytes: it is held in memory, and logs and tables are far smaller."""


def folder_name(path: Path) -> str:
    """Return the name by which a folder was given, also where that is ".", and that of a link rather than its target's.

    nnU-Net's folders are full of names, and a link's is the one that nnU-Net sees.
    """
    return Path(os.path.abspath(path)).name


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless they exist.

    Raises:
        InputError: if it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise InputError(f"{path}: no such folder, and it cannot be made ({reason}); choose another place") from error


def check_folder(folder: Path) -> None:
    """Refuse what is no folder to write into, and cannot become one, before hours of work.

    Raises:
        InputError: if it, or the first of its parents that exists, cannot be written to.
    """
    place = next(found for found in (folder, *folder.parents) if os.path.lexists(found))
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError(f"{folder}: {place} is not a folder that can be written to; choose another place")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, which gets its name when the block succeeds and is removed otherwise.

    The file has the permissions that the user's umask asks for, whatever library writes it.

    Raises:
        InputError: if ``path`` cannot be written. Other errors of the block are passed on as they are.
    """
    if path.is_dir():  # such as "." and "/", which have no name
        raise InputError(f"{path}: cannot be written (Is a directory); give the name of a file")
    # Of this process alone: trainings that start together write the same file of splits.
    partial = path.with_name(f"{PARTIAL}{_machine()}-{os.getpid()}-{path.name}")
    make_folder(path.parent)
    _remove_abandoned(path)
    partial.unlink(missing_ok=True)
    try:
        mode = _usual_mode(partial)
        yield partial
        if not partial.is_symlink():
            partial.chmod(mode)
        os.replace(partial, path)
    except OSError as error:
        if error.errno in DISK_FULL or str(error.filename) == str(partial):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); make room there, or choose another place"
            ) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _machine() -> str:
    """A short name of this machine: process ids of others tell nothing here, where a disk is shared."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed have left of a file."""
    pattern = re.compile(f"{re.escape(PARTIAL)}([0-9a-f]{{8}})-([0-9]{{1,9}})-{re.escape(path.name)}")
    for name in os.listdir(path.parent):
        if match := pattern.fullmatch(name):
            partial = path.with_name(name)
            with suppress(FileNotFoundError):  # its process has finished it
                # On Windows signal 0 is no question, but Ctrl+C.
                can_ask = os.name == "posix" and match[1] == _machine()
                if not _is_alive(int(match[2])) if can_ask else _is_old(partial):
                    partial.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _is_old(path: Path) -> bool:
    """Whether nobody has written to a file for so long that its process, on another machine, must be gone."""
    return time.time() - path.lstat().st_mtime > ABANDONED_AFTER


def _usual_mode(path: Path) -> int:
    """The permissions that a new file gets there; asking for the umask itself would change it for a moment."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def write_bytes(content: bytes | memoryview, path: Path) -> None:
    """Write bytes atomically, even if the machine loses power.

    Raises:
        InputError: see ``whole_file``.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_text(text: str, path: Path) -> None:
    """Write text atomically; of a file name in it that is not UTF-8, the bytes become JSON's own escapes.

    Raises:
        InputError: see ``whole_file``.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_json(content: Any, path: Path) -> None:
    """Write JSON atomically. NaN is not JSON, and must have been replaced by None.

    Raises:
        InputError: see ``whole_file``.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(text + "\n", path)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows with the same keys as CSV below a heading; None and NaN become empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: "" if isinstance(cell, float) and math.isnan(cell) else cell for key, cell in row.items()}
        )
    return text.getvalue()


def write_csv(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write rows atomically, as ``csv_text`` formats them.

    Raises:
        InputError: see ``whole_file``.
    """
    write_text(csv_text(rows), path)


def check_is_new(path: Path) -> None:
    """Refuse an output that exists already: where this is asked, no output is ever replaced.

    Raises:
        InputError: if it exists.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name for the output, or remove it first")


def check_is_file(path: Path, remedy: str) -> None:
    """Refuse what is not a regular file: reading a pipe or a device might never end.

    Args:
        path: the file to read.
        remedy: advice of the message.

    Raises:
        InputError: if it is missing, inaccessible or not a regular file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, device or socket"
        raise InputError(f"{path}: {kind}, expected a file; {remedy}")


def read_text(path: Path, remedy: str) -> str:
    """Read a file that holds text in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        remedy: advice of the message where the file cannot be read.

    Raises:
        InputError: if it is missing, no file, larger than ``MAX_TEXT_BYTES``, or not UTF-8.
    """
    check_is_file(path, remedy)
    if (size := path.stat().st_size) > MAX_TEXT_BYTES:
        raise InputError(f"{path}: has {size:,} bytes, expected at most {MAX_TEXT_BYTES:,} of text; {remedy}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; {remedy}") from None


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Args:
        path: the file.
        remedy: advice of the message where the file cannot be read.

    Raises:
        InputError: if it is missing, cannot be read, is not JSON, or holds something other than an object.
    """
    return parse_json(read_text(path, remedy), str(path), remedy)


def read_finite_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file that holds a JSON object whose content will be written again.

    Args:
        path: the file.
        remedy: advice of the message where the file cannot be read.

    Raises:
        InputError: as for ``read_json``, or if it holds NaN or an infinite number, which Python writes although they
            are not JSON.
    """
    content = read_json(path, remedy)
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        raise InputError(f"{path}: holds NaN or an infinite number, which is no JSON: write null instead") from None
    return content


def load_json(text: str | bytes, name: str, remedy: str) -> Any:
    """Parse a JSON text.

    Args:
        text: the text; bytes are UTF-8.
        name: name of the source in messages.
        remedy: advice of the message where it cannot be read.

    Raises:
        InputError: if it is not JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{name}: cannot be read as JSON (nested too deeply); {remedy}") from None
    except ValueError as error:  # also a number of thousands of digits
        raise InputError(f"{name}: cannot be read as JSON ({error}); {remedy}") from None


def parse_json(text: str | bytes, name: str, remedy: str) -> dict[str, Any]:
    """Parse a text that holds a JSON object.

    Args:
        text: the text; bytes are UTF-8.
        name: name of the source in messages.
        remedy: advice of the message where it cannot be read.

    Raises:
        InputError: if it is not JSON, or holds something other than an object.
    """
    content = load_json(text, name, remedy)
    if not isinstance(content, dict):
        raise InputError(f"{name}: holds a JSON {type(content).__name__}, expected an object; {remedy}")
    return content


def read_table(path: Path, remedy: str) -> list[dict[str, str]]:
    """Read a table of comma-separated values, whose first line names the columns; one dictionary per line.

    Args:
        path: the file.
        remedy: advice of the message where the file cannot be read.

    Raises:
        InputError: if it is missing, cannot be read, or has a line with other columns than the first.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, remedy), newline=""))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is not one of a table ({error}); {remedy}") from None
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise InputError(f"{path}: row {number} has not as many fields as the first line names columns; {remedy}")
    return rows

"""Opens zips and tars from outside, and refuses those that would write elsewhere or unpack to far more."""

import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from missu_nnunet.errors import DISK_FULL, InputError
from missu_nnunet.files import check_is_file
from missu_nnunet.text import printable

MAX_COMPRESSION = 100
"""How many times its size an archive may unpack to."""


class ZipReader:
    """A zip whose members have been checked to stay inside it; they are read in memory.

    Attributes:
        name: name of the zip in messages.
        members: every member by its name, folders left out.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int, name: str) -> None:
        self._archive = archive
        self._size = size
        self.name = name
        self.members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
        for member in archive.infolist():
            _check_name(member.orig_filename, f"{name}: {printable(member.orig_filename)}")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(
                    f"{name}: {printable(member.orig_filename)}: refused, because it is a symbolic link; do not use it"
                )
        if len(self.members) < sum(not member.is_dir() for member in archive.infolist()):
            raise InputError(f"{name}: refused, because it holds several files of one name; do not use it")

    def check_size(self, max_compression: int = MAX_COMPRESSION) -> None:
        """Refuse a zip that unpacks to far more than its size, by extreme compression or overlapping members.

        Args:
            max_compression: how many times its size the zip may unpack to.

        Raises:
            InputError: if it unpacks to more.
        """
        unpacked = sum(member.file_size for member in self.members.values())
        _check_size(unpacked, self._size, max_compression, self.name)

    def read(self, member: str) -> bytes:
        """Read a member.

        Raises:
            InputError: if it is damaged or encrypted.
        """
        with _broken_named(f"{self.name}: {printable(member)}", "zip"):
            return self._archive.read(member)


@contextmanager
def open_zip(file: IO[bytes], name: str, kind: str = "zip") -> Iterator[ZipReader]:
    """Open a zip, and check the names of its members.

    Args:
        file: the opened file.
        name: name of the zip in messages.
        kind: description of what was expected, for messages.

    Raises:
        InputError: if it is damaged, or has a member that leads out of it, is a link, or is there twice.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) != b"PK\3\4":  # zipfile would look at the end alone, and others take the file for what stands first
        raise InputError(f"{name}: cannot be read as a {kind} (it does not begin as a zip); fetch it again")
    with _broken_named(name, kind):
        archive = zipfile.ZipFile(file)
    with archive:
        yield ZipReader(archive, size, name)


def unpack_tar(archive: Path, folder: Path) -> None:
    """Unpack a tar of files and folders, compressed or not.

    Raises:
        InputError: if it is missing, no file, damaged, or has a member that leads out of it or is a link or device; or
            if the disk is full.
    """
    check_is_file(archive, "give a tar archive")
    unpacked, position = 0, -1
    with _broken_named(str(archive), "tar"), tarfile.open(archive) as tar:
        for member in tar:
            name = f"{archive}: {printable(member.name)}"
            if member.size < 0 or member.offset <= position:
                raise tarfile.ReadError("a member that begins before the one in front of it")
            position = member.offset
            _check_name(member.name, name)
            if not member.isfile() and not member.isdir():
                raise InputError(f"{name}: refused, because it is neither a file nor a folder; do not unpack it")
            unpacked += member.size
            _check_size(unpacked, archive.stat().st_size, MAX_COMPRESSION, str(archive))
            _extract(tar, member, folder)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.10.12 and 3.11.4 knows none
    try:
        tar.extract(member, folder)
    except OSError as error:
        if error.errno in DISK_FULL:  # no fault of the archive's
            raise InputError(
                f"{folder}: cannot be written ({error.strerror}); make room there, or choose another place"
            ) from None
        raise


def _check_name(member: str, name: str) -> None:
    """Refuse a member that would be unpacked outside the archive's folder."""
    # The name as it stands in the archive: zipfile cuts it at a NUL.
    parts = re.split(r"[/\\]", member)
    if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in member:
        raise InputError(f"{name}: refused, because the path leads out of the archive's folder; do not use it")


def _check_size(unpacked: int, size: int, max_compression: int, name: str) -> None:
    if unpacked > max_compression * size:
        raise InputError(
            f"{name}: refused, because its {size:,} bytes would unpack to {unpacked:,}, more than {max_compression} "
            "times as much; do not use it, ask for one from a source you trust"
        )


@contextmanager
def _broken_named(name: str, kind: str) -> Iterator[None]:
    """Turn whatever the library raises over a damaged archive into an error about the file."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename is not None:  # about the file itself, or one that is written
            raise
        raise InputError(f"{name}: cannot be read as a {kind} ({error}); fetch it again") from None
    except Exception as error:  # zlib's, lzma's, tarfile's own and whatever a damaged number leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: cannot be read as a {kind} ({printable(reason)}); fetch it again") from None

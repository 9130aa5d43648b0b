"""Hostile files: reading them would never end, or end in a crash."""

import bz2
import gzip
import io
import lzma
import os
import socket
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any


def itself(kind: type) -> Any:
    """A list or dictionary that contains itself."""
    content = kind()
    if kind is list:
        content.append(content)
    else:
        content["itself"] = content
    return content


def unfolding(kind: type, times: int) -> Any:
    """Containers that share their parts, so that a walk through them takes 2 to the power of ``times`` steps."""
    content: Any = "end"
    for _ in range(times):
        content = {"a": content, "b": content} if kind is dict else kind([content, content])
    return content


def nested(kind: type, times: int) -> Any:
    """Nested containers."""
    content: Any = "end"
    for _ in range(times):
        content = {"in": content} if kind is dict else kind([content])
    return content


def with_attribute(content: Any, name: str) -> Any:
    """An ordered dictionary or tensor that has an attribute in place of a method."""
    content = OrderedDict(content) if type(content) is dict else content
    setattr(content, name, "not a method")
    return content


def no_file(folder: Path, kind: str) -> Path:
    """Paths that exist but are not regular files; reading them would wait for ever, never end, or fail."""
    path = folder / kind.replace(" ", "_")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


NO_FILES = ("pipe", "socket", "endless device", "folder", "link to itself")

LONG_NAMES = ("x" * 300, "x/" * 2500, "x" * 5000)


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip in memory."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def _compressed(compression: int) -> bytes:
    """A zip whose only member's compressed data are damaged."""
    content = bytearray(zip_of({"Dataset/plans.json": bytes(range(256)) * 40}, compression))
    start = 30 + len("Dataset/plans.json")
    content[start + 4 : start + 60] = b"\xff" * 56
    return bytes(content)


def _directory(offset: int, value: bytes) -> bytes:
    """A zip with other bytes at an offset of its central directory's end."""
    content = bytearray(zip_of({"Dataset/plans.json": b"{}"}))
    end = content.rindex(b"PK\5\6")
    content[end + offset : end + offset + len(value)] = value
    return bytes(content)


def _entry(offset: int, value: bytes) -> bytes:
    """A zip with other bytes at an offset of its central directory's only entry."""
    content = bytearray(zip_of({"Dataset/plans.json": b"{}"}))
    entry = content.rindex(b"PK\1\2")
    content[entry + offset : entry + offset + len(value)] = value
    return bytes(content)


ZIPS: dict[str, Callable[[], bytes]] = {
    "no zip": lambda: b"not a zip" * 100,
    "begins as one": lambda: b"PK\3\4" + bytes(1000),
    "cut": lambda: zip_of({"Dataset/plans.json": b"{}"})[:-30],
    "something in front": lambda: b"\x80\x02" + zip_of({"Dataset/plans.json": b"{}"}),
    "name that is not UTF-8": lambda: zip_of({"Dataset/é.json": b"{}"}).replace("é".encode(), b"\xff\xfe"),
    "directory behind the end": lambda: _directory(16, b"\xff\xff\xff\x7f"),
    "directory of a wrong size": lambda: _directory(12, b"\xff\xff\x00\x00"),
    "member behind the end": lambda: _entry(42, b"\xff\xff\xff\x7f"),
    "unknown compression": lambda: _entry(10, b"\x63\x00"),
    "encrypted": lambda: _entry(8, b"\x01\x00"),
    "wrong checksum": lambda: _entry(16, b"\x00\x00\x00\x00"),
    "impossible size": lambda: _entry(24, b"\xff\xff\xff\xff"),
    "broken deflate": lambda: _compressed(zipfile.ZIP_DEFLATED),
    "broken bzip2": lambda: _compressed(zipfile.ZIP_BZIP2),
    "broken lzma": lambda: _compressed(zipfile.ZIP_LZMA),
    "bomb": lambda: zip_of({f"Dataset/{number}.json": bytes(10**7) for number in range(3)}),
    "leads out": lambda: zip_of({"../outside.json": b"{}"}),
    "absolute": lambda: zip_of({"/outside.json": b"{}"}),
}
"""Damaged and hostile zips; each is refused by one line."""


def _tar(change: Callable[[tarfile.TarInfo], object], data: bytes = b"x") -> bytes:
    """A tar with a changed member in a Decathlon task's folder."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("Task07_Tiny/dataset.json")
        member.size = len(data)
        change(member)
        archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def _kind(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], object]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, target, 0

    return change


def _pax(**headers: str) -> Callable[[tarfile.TarInfo], object]:
    return lambda member: member.pax_headers.update({key.replace("_", "."): value for key, value in headers.items()})


def _size(value: bytes) -> bytes:
    """A tar whose only member says that it has another size, with a right checksum."""
    content = bytearray(_tar(lambda member: None))
    content[124:136] = value
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


TARS: dict[str, Callable[[], bytes]] = {
    "no tar": lambda: b"not a tar" * 100,
    "empty": lambda: b"",
    "cut": lambda: _tar(lambda member: None, bytes(5000))[:2000],
    "broken gzip": lambda: gzip.compress(_tar(lambda member: None))[:-40] + bytes(40),
    "broken bzip2": lambda: bz2.compress(_tar(lambda member: None))[:40] + bytes(40),
    "broken xz": lambda: lzma.compress(_tar(lambda member: None))[:60] + bytes(40),
    "bomb": lambda: gzip.compress(_tar(lambda member: None, bytes(10**7))),
    "negative size": lambda: _size(b"\xff" * 12),
    "impossible size": lambda: _size(b"\x80" + b"\x7f" * 11),
    "sparse beyond measure": lambda: _tar(
        _pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="9" * 15)
    ),
    "time that is no number": lambda: _tar(_pax(mtime="nan")),
    "time without an end": lambda: _tar(_pax(mtime="1e300")),
    "NUL in the name": lambda: _tar(_pax(path="Task07_Tiny/data\0set.json")),
    "long name": lambda: _tar(lambda member: setattr(member, "name", "Task07_Tiny/" + "x" * 5000)),
    "link that leads nowhere": lambda: _tar(_kind(tarfile.LNKTYPE, "Task07_Tiny/nowhere")),
    "symbolic link that leads nowhere": lambda: _tar(_kind(tarfile.SYMTYPE, "nowhere")),
    "symbolic link that leads out": lambda: _tar(_kind(tarfile.SYMTYPE, "/etc/passwd")),
    "pipe": lambda: _tar(_kind(tarfile.FIFOTYPE)),
    "device": lambda: _tar(_kind(tarfile.CHRTYPE)),
    "leads out": lambda: _tar(lambda member: setattr(member, "name", "../outside")),
    "absolute": lambda: _tar(lambda member: setattr(member, "name", "/outside")),
}
"""Damaged and hostile tars; each is refused by one line, and nothing is left behind."""

TABLES: dict[str, bytes] = {
    "latin-1": "case,patient\ncase_000,Müller\n".encode("latin-1"),
    "field above 128 kB": b"case,patient\ncase_000," + b"x" * 200_000 + b"\n",
    "more fields than columns": b"case,patient\ncase_000,a,b\n",
    "fewer fields than columns": b"case,patient\ncase_000\n",
    "UTF-16": "case,patient\ncase_000,a\n".encode("utf-16"),
}
"""Tables that cannot be read."""

"""The extras of this distribution, such as ``missu-nnunet[datasets]``: libraries that only some commands need."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager

from missu_nnunet.errors import InputError

_FOR_DEVELOPERS = ("test", "docs", "all")


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Name the extra to install where an import in this block finds a library missing.

    Raises:
        InputError: if a library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "missu_nnunet":
            raise
        raise InputError(f"{error.name} is not installed: pip install 'missu-nnunet[{extra}]'") from error


def missing_libraries() -> dict[str, list[str]]:
    """List the libraries of each extra that are not installed; empty where this package itself is not installed."""
    missing: dict[str, list[str]] = {}
    try:
        requirements = importlib.metadata.requires("missu-nnunet") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path
        return {}
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*extra == .(\w+)", requirement)
        if found is None or found[1] == "missu-nnunet" or found[2] in _FOR_DEVELOPERS:
            continue
        libraries = missing.setdefault(found[2], [])
        try:
            importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            libraries.append(found[1])
    return missing

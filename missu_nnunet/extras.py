"""The extras of this distribution: libraries that only some commands need, such as ``missu-nnunet[datasets]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from missu_nnunet.errors import InputError


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Import an extra's libraries in this block, which names the extra where one of them is missing.

    Raises:
        InputError: a library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "missu_nnunet":
            raise
        raise InputError(f"{error.name} is not installed: pip install 'missu-nnunet[{extra}]'") from error

"""Reads JSON files through typed schemas, so that a fault in a file becomes one line that names it.

A schema is strict about the part of a file that is used, and lenient about the rest.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from missu_nnunet.errors import InputError
from missu_nnunet.files import load_json, read_text

Schema = TypeVar("Schema")

_EXPECTED = (
    dict.fromkeys(("dict_type", "model_type", "dataclass_type"), "expected an object")
    | dict.fromkeys(("list_type", "tuple_type"), "expected a list")
    | {"string_type": "expected text", "int_type": "expected a whole number"}
)
"""The expectations in messages about the commonest faults, in JSON's words instead of Python's."""

Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=250, pattern=r"^[^/\x00]+$")]
"""A name of a file or folder that leads nowhere else; "." and ".." are refused where paths are made."""

FilePath = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
"""A text that can be a path."""


class Structure(BaseModel):
    """The part of a JSON object that is used; the schemas of files derive from this class."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def read_structure(path: Path, schema: type[Schema], remedy: str) -> Schema:
    """Read a JSON file through a schema.

    Args:
        path: the file.
        schema: a ``Structure``, a dataclass, or a type such as ``dict[str, str]``.
        remedy: advice of the message where the file cannot be read.

    Raises:
        InputError: if it is missing, cannot be read, is not JSON, or does not fit the schema.
    """
    return as_structure(load_json(read_text(path, remedy), str(path), remedy), schema, str(path), remedy)


def as_structure(content: object, schema: type[Schema], name: str, remedy: str) -> Schema:
    """Bring content that has been read into the form of a schema.

    Args:
        content: content of the file.
        schema: the schema, as for ``read_structure``.
        name: name of the file in the message.
        remedy: advice of the message.

    Raises:
        InputError: if the content does not fit the schema.
    """
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        raise InputError(f"{name}: {_first(error)}; {remedy}") from None
    except RecursionError:
        raise InputError(f"{name}: nested too deeply; {remedy}") from None


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    found = error.errors(include_url=False)[0]
    place = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        return f"the key '{place}' is missing"
    reason = _EXPECTED.get(found["type"]) or found["msg"].removeprefix("Value error, ")
    if not reason.startswith("found "):  # a validator that compares parts says itself what it found
        reason = f"found {reprlib.repr(found['input'])}, {reason[0].lower()}{reason[1:]}"
    return f"{place + ': ' if place else ''}{reason}"

"""Files that fit a schema, and files that do not."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from missu_nnunet.errors import InputError
from missu_nnunet.structures import Name, Structure, as_structure, read_structure


class Part(Structure):
    number: int


class Whole(Structure):
    name: Name
    parts: list[Part] = Field(default_factory=list)


@dataclass(frozen=True)
class Record:
    pairs: tuple[tuple[int, str], ...]


def test_used_content_is_typed_and_the_rest_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text('{"name": "a", "parts": [{"number": 1, "more": NaN}], "other": [null]}')
    assert read_structure(file, Whole, "do that") == Whole(name="a", parts=[Part(number=1)])
    file.write_text('{"pairs": [[1, "a"]]}')
    assert read_structure(file, Record, "do that") == Record(((1, "a"),))
    file.write_text('{"a": "1"}')
    assert read_structure(file, dict[str, str], "do that") == {"a": "1"}


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda file: None, "no such file"),
    (lambda file: file.mkdir(), "a folder, expected a file"),
    (os.mkfifo, "a pipe, device or socket, expected a file"),
    (lambda file: file.symlink_to("/dev/zero"), "a pipe, device or socket, expected a file"),
    (lambda file: os.truncate(os.open(file, os.O_CREAT | os.O_RDWR), 2**40), "bytes, expected at most"),
    (lambda file: file.write_text(""), "cannot be read as JSON"),
    (lambda file: file.write_bytes(b"\xff"), "byte 0 is not UTF-8"),
    (lambda file: file.write_text("[" * 100_000), "nested too deeply"),
    (lambda file: file.write_text('{"name": ' + "9" * 5000 + "}"), "cannot be read as JSON"),
    (lambda file: file.write_text("null"), "found None, expected an object"),
    (lambda file: file.write_text("[]"), r"found \[\], expected an object"),
    (lambda file: file.write_text("{}"), "the key 'name' is missing"),
    (lambda file: file.write_text('{"name": 3}'), "name: found 3, expected text"),
    (lambda file: file.write_text('{"name": "../x"}'), "name: found '../x', "),
    (lambda file: file.write_text('{"name": "a", "parts": {}}'), "parts: found {}, expected a list"),
    (lambda file: file.write_text('{"name": "a", "parts": [{}]}'), "the key 'parts.0.number' is missing"),
    (lambda file: file.write_text('{"name": "a", "parts": [{"number": Infinity}]}'), "parts.0.number: found inf"),
]


@pytest.mark.parametrize(("make", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_other_content_ends_in_one_line(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    make(file)
    with pytest.raises(InputError, match=rf"^\S+/file\.json: .*{message}.*; do that$") as raised:
        read_structure(file, Whole, "do that")
    assert len(str(raised.value)) < 500 + len(str(file))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(content=JSON)
def test_every_structure_is_either_accepted_or_refused(content: object) -> None:
    try:
        as_structure(content, Whole, "it", "do that")
    except InputError as error:
        assert str(error).startswith("it: ")  # noqa: PT017 (either way is right)

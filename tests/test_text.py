import pytest
from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.text import counted, duration, first_line, number, p_value, printable, size, some


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[31mb", "a\\x1b[31mb"), ("a\nb\t", "a\\nb\\t"), ("\u202egnp", "\\u202egnp"), ("\udcff", "\\udcff")],
)
def test_different_texts_stay_different(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.42, "0.4 s"), (9.96, "10 s"), (59, "59 s"), (100, "2 min"), (3600, "1 h"), (200000, "2 d 8 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_sizes() -> None:
    assert (counted(1, "case"), counted(0, "case"), counted(2, "case")) == ("1 case", "0 cases", "2 cases")
    assert (size(5e6), size(2.34e9)) == ("5 MB", "2.3 GB")


def test_numbers_that_are_undefined_or_negative_or_small() -> None:
    assert (number(-0.5, 2), number(float("nan"))) == ("−0.50", "–")
    assert (p_value(0.0004), p_value(0.0123), p_value(float("nan"))) == ("< 0.001", "0.0123", "–")


def test_some_names() -> None:
    assert (some([*"abc"]), some([*"abcde"]), some([*"abc"], 1)) == ("a, b, c", "a, b, c and 2 more", "a and 2 more")


@pytest.mark.parametrize(("said", "shown"), [("\n no\nmore", "no"), ("", "ValueError"), (" ", "ValueError")])
def test_the_first_line_of_an_error(said: str, shown: str) -> None:
    assert first_line(ValueError(said)) == shown

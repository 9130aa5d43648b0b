"""Text for people: numbers and names in words, and untrusted text made safe to show."""

from __future__ import annotations

import math
from collections.abc import Sequence


def printable(text: str) -> str:
    """Make one line without control characters from untrusted text.

    Control characters, line breaks and the invisible characters that change the direction of writing become escapes,
    such as ``\\x1b``, so that names which differ in them alone stay different.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says, which tells most where libraries say first where it was raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def counted(number: int, noun: str) -> str:
    """Format a number of things: ``1 case``, ``2 cases``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(names: Sequence[str], most: int = 3) -> str:
    """Join the first few names, and say how many more there are, for a message of one line."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: float, decimals: int = 4) -> str:
    """Format a number with fixed decimals and a real minus sign; NaN, which is undefined, is a dash."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}".replace("-", "−")


def p_value(p: float) -> str:
    """Format a p-value in three digits, but without a pretence of precision below 0.001."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3g}"


def duration(seconds: float) -> str:
    """Format a time in at most two units: ``0.4 s``, ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(count: float) -> str:
    """Format a number of bytes: ``12 MB``, ``3.4 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

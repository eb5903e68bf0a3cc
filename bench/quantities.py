"""Numbers as people read them: three digits that mean something, and the unit that fits."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["duration", "factor", "listed", "number", "rate", "size"]


def number(value: float) -> str:
    """Three digits: 1,230, 47.1, 0.05; 0 only if it is 0."""
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    for bound, digits in ((9.995, 1), (0.0095, 2)):
        if abs(value) >= bound:
            return f"{value:.{digits}f}"
    return f"{value:.1g}"


def rate(per_second: float) -> str:
    """Operations a second, in thousands."""
    return number(per_second / 1_000)


def factor(value: float) -> str:
    """How many times something."""
    return f"{value:.2f}" if 0.0095 <= value < 9.995 or not value else number(value)


def duration(seconds: float) -> str:
    """A time: 1.25 µs, 3.10 ms."""
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= length:
            return f"{number(seconds / length)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def size(count: float) -> str:
    """Bytes: 812 bytes, 1.40 KB, 103 MB; a KB has 1,000."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= length:
            return f"{number(count / length)} {unit}"
    return f"{number(count)} bytes"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)

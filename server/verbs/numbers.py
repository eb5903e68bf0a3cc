"""Numbers on a command line: within bounds, in any of Python's ways to write them, or refused with one sentence.

    --keys 50000    --keys 5e4    --keys 50_000

Each function makes a `type=` for argparse, which says which option was meant. What can't be meant is refused before
anything begins: a NaN is in no bounds, and neither is infinity.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["number", "whole"]


def number(least: float, most: float, what: str = "a number") -> Callable[[str], float]:
    """A real number, `least` and `most` included; `what` it is, for the sentence. It raises ArgumentTypeError."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"this is {what} from {least:,} to {most:,}, and not {text!r}")
        return found

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number, `least` and `most` included; 1e6 is one."""
    real = number(least, most, "a whole number")

    def parse(text: str) -> int:
        if (found := real(text)) != int(found):
            raise argparse.ArgumentTypeError(f"this is a whole number, and not {text!r}")
        return int(found)

    return parse

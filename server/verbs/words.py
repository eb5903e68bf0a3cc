"""What all verbs share: how one is added to the parser, and what is wrong with a command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

__all__ = ["AddVerb", "UsageError", "count", "one_line", "port", "quota"]

AddVerb = Callable[..., argparse.ArgumentParser]
"""add(name, run, text, *words): a verb that calls `run` with the parsed options; words: its arguments without a dash."""


class UsageError(Exception):
    """The command line asks for something that makes no sense; the sentence says what."""


def port(text: str) -> int:
    """An argument that is a port. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def count(text: str) -> int:
    """An argument that counts something. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise argparse.ArgumentTypeError(f"it is a number, and not {text!r}")
    return int(text)


def quota(text: str) -> int:
    """An argument that bounds a number of bytes as etcd's do, of 64 bits; 0 for a negative one: no bound. Raises
    ArgumentTypeError."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) < 1 << 63):
        raise argparse.ArgumentTypeError(f"it is a whole number of bytes, below 2^63, and not {text!r}")
    return max(0, int(text))


def one_line(error: Exception) -> int:
    """Says what was found wrong, and returns the exit status that means so."""
    print(f"metcd: {error}", file=sys.stderr)
    return 1

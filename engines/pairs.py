"""The pairs of a `load`: each key and value is checked, and the keys ascend strictly.

    a=1 b=2 c=3    passes
    a=1 c=3 b=2    InvalidKey at b, which comes after c
    a=1 a=2        InvalidKey at the second a: a map has each key once

A generator, so that a load of any size needs the memory of one pair. What was passed on before the error is not taken
back: an engine installs nothing until the stream has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from engines.errors import InvalidKey
from engines.kvstore import Pair, check_key, check_value

__all__ = ["ascending"]


def ascending(pairs: Iterable[Pair], check: Callable[[object], None] = check_value) -> Iterator[Pair]:
    """Passes the pairs on, one by one. `check` is called with each value, and raises if the engine can't hold it.

    Raises InvalidKey for a key that can't be written or that isn't above the one before it, InvalidValue, and whatever
    `pairs` raises. O(1) for each pair.
    """
    previous = b""  # below every key, because the empty one is refused
    for key, value in pairs:
        check_key(key)
        check(value)
        if key <= previous:
            raise InvalidKey(f"load wants strictly ascending keys, and {key[:40]!r} comes after {previous[:40]!r}")
        previous = key
        yield key, value

"""Pairs as lines of NDJSON, bytes in base64: what a scan answers, and what `metcd load` reads.

{"key":"aGVsbG8=","value":"d29ybGQ="}
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Iterator

from engines.kvstore import Pair

__all__ = ["BLOCK_BYTES", "chained", "lines_of", "pair_line"]

BLOCK_BYTES = 64 << 10  # of lines that are sent at once; what a scan holds in memory beside one pair


def pair_line(key: bytes, value: bytes) -> bytes:
    """A pair as a line."""
    return b'{"key":"%b","value":"%b"}\n' % (b2a_base64(key, newline=False), b2a_base64(value, newline=False))


def lines_of(pairs: Iterable[Pair]) -> Iterator[bytes]:
    """Lines in blocks of at least BLOCK_BYTES, except for the last."""
    lines: list[bytes] = []
    size = 0
    for key, value in pairs:
        line = pair_line(key, value)
        lines.append(line)
        size += len(line)
        if size >= BLOCK_BYTES:
            yield b"".join(lines)
            lines.clear()
            size = 0
    if lines:
        yield b"".join(lines)


def chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """The block that was looked at before the answer began, and the others."""
    yield first
    yield from rest

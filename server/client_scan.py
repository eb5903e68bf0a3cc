"""The pairs of a scan, one by one as they arrive: in the memory of one line, however many there are.

    the node's view of one moment ──▶ chunks ──▶ lines of NDJSON ──▶ pairs

Invariants:

1. The end of the pairs is the end of the answer as HTTP says it: its last chunk, or its length. Everything else that ends
   the bytes is a ScanBroken, which says how far it came; never an end that looks like the real one.
2. What is held is a piece of the answer and one line, which has a limit.
3. A scan that is closed early, or forgotten, closes its connection, and with it the view that the node keeps for it.

A scan shows one moment, which only the node that began it knows. So a broken one can't be gone on with, neither there nor
on another node: what is read again is of a later moment.
"""

from __future__ import annotations

import http.client
import json
from binascii import a2b_base64
from collections.abc import Callable, Iterator

from engines.kvstore import Pair
from server.errors import NodeError

__all__ = ["PairStream", "ScanBroken", "pair_of"]

PIECE_BYTES = 64 << 10
LINE_BYTES_MAX = 8 << 20  # a value of 4 MiB and the longest key, in base64, are less than 6 MiB


class ScanBroken(NodeError):
    """The pairs of a scan ended before the scan did; the sentence says after how many, and which was the last."""


def pair_of(line: bytes) -> Pair:
    """The pair of one line. Raises ValueError, KeyError, TypeError for what a node doesn't send."""
    found = json.loads(line)
    return a2b_base64(found["key"], strict_mode=True), a2b_base64(found["value"], strict_mode=True)


class PairStream(Iterator[Pair]):
    """The pairs of an answer that is still arriving. For one thread at a time; also a context manager."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
        ended: Callable[[http.client.HTTPConnection, bool], None],
    ) -> None:
        """response: of `connection`, its body unread. ended: is given the connection, to use again
        if the answer was read to its end (True), or to close."""
        self._response, self._connection, self._ended = response, connection, ended
        self._left = None if response.chunked else response.length  # bytes; http.client doesn't count them in read1
        self._lines: list[bytes] = []  # the last first
        self._begun = b""  # of a line whose end has not come
        self._count = 0
        self._last_key: bytes | None = None
        self._open = True

    def __next__(self) -> Pair:
        while not self._lines:
            if not self._open:
                raise StopIteration
            self._read()
        line = self._lines.pop()
        try:
            pair = pair_of(line)
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(f"a line is no pair ({error})") from None
        self._count += 1
        self._last_key = pair[0]
        return pair

    def _read(self) -> None:
        """Reads the next piece, and divides it into lines. Raises ScanBroken."""
        size = PIECE_BYTES if self._left is None else min(PIECE_BYTES, self._left)
        try:
            piece = self._response.read1(size) if size else b""
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(repr(error)) from error
        if self._left is not None:
            self._left -= len(piece)
        if not piece:
            if self._left or (self._left is None and not self._response.chunked):
                raise self._broken("the connection ended before the answer")
            if self._begun:
                raise self._broken("the last line has no end")
            self._open = False
            self._ended(self._connection, True)
            return
        lines = (self._begun + piece).split(b"\n")
        self._begun = lines.pop()
        if len(self._begun) > LINE_BYTES_MAX:
            raise self._broken(f"a line has more than {LINE_BYTES_MAX:,} bytes")
        self._lines = [line for line in reversed(lines) if line]

    def _broken(self, why: str) -> ScanBroken:
        self.close()
        last = "" if self._last_key is None else f", the last with the key {self._last_key!r:.200}"
        return ScanBroken(
            f"the scan broke off after {self._count:,} pairs{last}: {why}; it was of one moment, so what is read from now "
            "on is of another: begin again"
        )

    def close(self) -> None:
        """Ends the scan, and closes its connection unless the answer has been read to its end. Twice is fine."""
        self._lines = []
        if self._open:
            self._open = False
            self._response.close()
            self._ended(self._connection, False)

    def __enter__(self) -> PairStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

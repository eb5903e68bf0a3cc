"""A request's body as it arrives: of a length that was announced, or in chunks; for who can't wait for its end.

    4 CR LF            a chunk's size in hexadecimal digits, and after a ";" what nobody reads here
    Wiki CR LF         so many bytes
    0 CR LF            the last chunk
    Name: value CR LF  trailer fields, which are dropped
    CR LF              the end

Two parties that disagree on where a body ends can be made to disagree on what the next request says (request smuggling), so
nothing is repaired: a size is 1 to SIZE_DIGITS_MAX hexadecimal digits without a sign or a blank in front, lines end in CR LF,
and a line or a trailer that is longer than its limit is refused.

Left out: trailer fields' meaning, chunk extensions' meaning. Follows RFC 9112 section 7.1.
"""

from __future__ import annotations

import re
from typing import Protocol

from server.request import BadRequest

__all__ = ["Body", "ChunkedBody", "SizedBody", "body_of"]

SIZE_DIGITS_MAX = 8
LINE_BYTES_MAX = 256  # of a size with its extensions
TRAILER_BYTES_MAX = 8 << 10

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,%d})[ \t]*(?:;[\t -~\x80-\xff]*)?" % SIZE_DIGITS_MAX)
_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")


class Body(Protocol):
    """What is left of a body. over: it has ended; rest: what came after its end."""

    over: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes:
        """What `data`, the next bytes of the connection, adds to the body. Raises BadRequest (400). O(bytes)."""


def body_of(length: int | None, chunked: bool) -> Body:
    """The body that a request's head announces; one of 0 bytes if it announces none."""
    return ChunkedBody() if chunked else SizedBody(length or 0)


class SizedBody:
    """A body of `length` bytes."""

    def __init__(self, length: int) -> None:
        self._missing = length
        self.over = not length
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """See Body."""
        taken = data[: self._missing]
        self._missing -= len(taken)
        self.over = not self._missing
        self.rest += data[len(taken) :]
        return taken


class ChunkedBody:
    """A body in chunks. It keeps a line or a trailer that isn't whole, and no more."""

    def __init__(self) -> None:
        self.over = False
        self.rest = b""
        self._buffer = b""  # received and not yet used,
        self._at = 0  # from here on
        self._missing = 0  # of the chunk that is read
        self._trailer_bytes = 0
        self._step = self._size

    def feed(self, data: bytes) -> bytes:
        """See Body."""
        pieces: list[bytes] = []
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        while not self.over and self._step(pieces):
            pass
        if self.over:
            self.rest += self._buffer[self._at :]
            self._at = len(self._buffer)
        return b"".join(pieces)

    def _size(self, pieces: list[bytes]) -> bool:
        line = self._line(LINE_BYTES_MAX, "The line with a chunk's size")
        if line is None:
            return False
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadRequest(400, "A chunk must begin with its size in hexadecimal digits, on a line of its own.")
        self._missing = int(size[1], 16)
        self._step = self._data if self._missing else self._trailer
        return True

    def _data(self, pieces: list[bytes]) -> bool:
        piece = self._buffer[self._at : self._at + self._missing]
        pieces.append(piece)
        self._at += len(piece)
        self._missing -= len(piece)
        if self._missing:
            return False
        self._step = self._end
        return True

    def _end(self, pieces: list[bytes]) -> bool:
        end = self._buffer[self._at : self._at + 2]
        if not b"\r\n".startswith(end):
            raise BadRequest(400, "A chunk's bytes must be followed by CR LF.")
        if len(end) < 2:
            return False
        self._at += 2
        self._step = self._size
        return True

    def _trailer(self, pieces: list[bytes]) -> bool:
        line = self._line(TRAILER_BYTES_MAX - self._trailer_bytes, "The trailer of a body")
        if line is None:
            return False
        self._trailer_bytes += len(line)
        if line and _FIELD.fullmatch(line) is None:
            raise BadRequest(400, "A field of a trailer must be a name, a colon and a value, on one line.")
        self.over = not line
        return not self.over

    def _line(self, most: int, what: str) -> bytes | None:
        """The next line, without its CR LF; None if it isn't whole."""
        end = self._buffer.find(b"\n", self._at, self._at + most + 2)
        if end < 0:
            if len(self._buffer) - self._at > most + 1:
                raise BadRequest(400, f"{what} has at most {most:,} bytes.")
            return None
        line = self._buffer[self._at : end]
        if not line.endswith(b"\r"):
            raise BadRequest(400, f"{what} must end in CR LF.")
        self._at = end + 1
        return line[:-1]

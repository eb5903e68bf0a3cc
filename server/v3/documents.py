"""The messages of a body that is a stream: one JSON object after the other, with or without blanks between them.

    feed(b'{"create_request": {}} {"cancel_')    next() → a WatchRequest        next() → None: not yet
    feed(b'request": {}}')                       next() → another one           next() → None
    end()                                        next() → None: that was all

1. A message is there as soon as its last brace is.
2. What isn't JSON is an error at the latest when its object's braces are complete, or the body ends; mostly sooner: the text
   is read again each time it has doubled, so that reading it costs O(bytes) in all. etcd says it at the first wrong byte.
3. The error is a Status of code 2: grpc-gateway passes on what its reader says, without a code, where it gives code 3 to the
   same body of a call that isn't a stream. After one, nothing more is read: next() raises it again.
4. An object has at most `most_bytes`.

Follows encoding/json's Decoder, as grpc-gateway 1.16 uses it for the requests of a stream.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

from server.v3.gojson import Incomplete, SyntaxError_, read
from server.v3.jsonpb import parse
from server.v3.messages import Message
from server.v3.status import Code, Status

__all__ = ["Documents"]

M = TypeVar("M", bound=Message)

_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')
_BLANKS = b" \t\r\n"


class Documents(Generic[M]):
    """The messages of a body that arrives in pieces. For one thread at a time."""

    def __init__(self, cls: type[M], most_bytes: int = 4 << 20) -> None:
        self._cls = cls
        self._most_bytes = most_bytes
        self._text = bytearray()
        self._ended = False
        self._wrong: Status | None = None
        self._start_over()

    def _start_over(self) -> None:
        """The next byte is the first of a document, or a blank before it."""
        self._at = 0  # all before it is looked at
        self._depth = 0
        self._in_string = False
        self._read_bytes = 0  # how much text there was when it was last read as JSON

    def feed(self, data: bytes) -> None:
        """More bytes of the body. Requires: end() wasn't called."""
        assert not self._ended
        self._text += data

    def end(self) -> None:
        """The body is complete."""
        self._ended = True

    def next(self) -> M | None:
        """The next message; None if it isn't complete yet, and at the end. Raises Status of code 2. O(bytes of the message)."""
        if self._wrong is None:
            try:
                return self._next()
            except Status as wrong:
                self._wrong = Status(Code.UNKNOWN, wrong.sentence) if wrong.code == Code.INVALID_ARGUMENT else wrong
            except SyntaxError_ as wrong:
                self._wrong = Status(Code.UNKNOWN, str(wrong))
            self._text.clear()
        raise Status(self._wrong.code, self._wrong.sentence)

    def _next(self) -> M | None:
        if not self._depth:
            self._text = self._text.lstrip(_BLANKS)
        if not self._text:
            return None
        end = self._end_of_container() if self._text[0] in b"{[" else self._end_of_atom()
        if (end or len(self._text)) > self._most_bytes:
            raise Status(
                Code.RESOURCE_EXHAUSTED,
                f"grpc: received message larger than max ({end or len(self._text)} vs. {self._most_bytes})",
            )
        if end == 0:
            return None
        document = bytes(self._text[:end])
        del self._text[:end]
        self._start_over()
        return parse(self._cls, document)

    def _end_of_container(self) -> int:
        """The offset after the brace or bracket that closes the first one; 0 if it isn't there yet."""
        while found := (_IN_STRING if self._in_string else _STRUCTURE).search(self._text, self._at):
            byte = found[0]
            self._at = found.end()
            if byte == b'"':
                self._in_string = not self._in_string
            elif byte == b"\\":
                self._at += 1  # what it escapes, even if that hasn't come
            else:
                self._depth += 1 if byte in b"{[" else -1
                if self._depth == 0:
                    return self._at
        self._at = max(self._at, len(self._text))
        self._require_beginning()
        return 0

    def _require_beginning(self) -> None:
        """Raises SyntaxError_ if the text can't become JSON; not after each piece, but each time there is twice as much."""
        if len(self._text) >= 2 * self._read_bytes or self._ended:
            self._read_bytes = len(self._text)
            try:
                read(bytes(self._text))
            except Incomplete:
                if self._ended:
                    raise

    def _end_of_atom(self) -> int:
        """The same for a value that isn't in braces: it ends with the byte after it, or with the body."""
        if not (len(self._text) >= 2 * self._read_bytes or self._ended):
            return 0
        self._read_bytes = len(self._text)
        try:
            node = read(bytes(self._text))
        except Incomplete:
            if self._ended:
                raise
            return 0
        assert node is not None
        return node.end if node.end < len(self._text) or self._ended else 0

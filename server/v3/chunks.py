"""A stream's messages as lines and as chunks, in the shapes that Go's server gives them.

    7d CR LF {"result":{…}}\n CR LF                 a message and its newline are one chunk,
    2af CR LF {"result":{…}} CR LF 1 CR LF \\n CR LF  unless the message fills Go's buffer of 2,048 bytes: then two
    a5 CR LF {"error":{…}} CR LF                     a failure has no newline
    0 CR LF CR LF                                    the end

Follows grpc-gateway 1.16's runtime/handler.go, and Go's net/http/server.go (bufferBeforeChunkingSize).
"""

from __future__ import annotations

from typing import Any

from server.v3.jsonpb import render

__all__ = ["LAST_CHUNK", "chunk_of", "line_of"]

NEWLINE_APART_BYTES = 2048

LAST_CHUNK = b"0\r\n\r\n"


def line_of(message: Any) -> bytes:
    """A message as a line of the answer."""
    return b'{"result":%b}\n' % render(message)


def chunk_of(line: bytes) -> bytes:
    """A line as one chunk, or two."""
    size = len(line)
    if size > NEWLINE_APART_BYTES and line.endswith(b"\n"):
        return b"%x\r\n%b\r\n1\r\n\n\r\n" % (size - 1, line[:-1])
    return b"%x\r\n%b\r\n" % (size, line)

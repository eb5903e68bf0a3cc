"""A peer's stream of frames in the node's loop: read there, once the handshake is over, and without a thread.

    the connection's thread      run ─▶ asleep ──────────────────────────────────────▶ closes the connection
    the node's thread             └─▶ recv ─▶ frames ─▶ decode ─▶ receive ─▶ … ─▶ its end, or a broken frame

The thread that made the handshake (server/peer_port.py) stays, asleep, as the owner of the connection: whoever hangs up
wakes the loop by it, and the loop wakes the thread. What server/frames.py says of frames holds for each of them here, and
the two forms read with the same `decode_frame`. A frame is kept in memory until it is whole: FRAME_BYTES_MAX at most.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from raft.raftpb import DecodeError, Message
from server.forwards import TransitClock
from server.frames import FRAME_HEADER_BYTES, decode_frame, frame_header
from server.loop import READABLE, Loop

__all__ = ["LoopStream"]

RECEIVE_BYTES = 64 << 10  # of one recv, so of one turn; malloc maps more than 128 KiB anew for each call


class LoopStream:
    """One stream. `run` is for the thread that owns the connection, the rest for the loop's."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        sender: int,
        transit: TransitClock,
        receive: Callable[[list[Message]], object],
        count: Callable[[int], object],
    ) -> None:
        """receive: takes the messages of a frame. count: is told of bytes that have come."""
        self._loop = loop
        self._socket = connection
        self._sender = sender
        self._transit = transit
        self._receive = receive
        self._count = count
        self._buffer = bytearray()
        self._error: DecodeError | None = None
        self._over = threading.Event()

    def run(self, received: bytes) -> DecodeError | None:
        """Has the stream read, and returns at its end: with what was wrong with its last frame, if that is why.

        received: what has come of it already.
        """
        self._count(len(received))
        self._buffer += received
        if self._loop.call(self._enter):
            self._over.wait()
        return self._error

    def _enter(self) -> None:
        if self._loop.closed:
            self._over.set()
            return
        self._loop.at_close(self._over.set)
        self._socket.setblocking(False)
        self._loop.watch(self._socket.fileno(), self._ready, READABLE)
        self._take_frames()

    def _ready(self, events: int) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._count(len(data))
            self._buffer += data
            self._take_frames()
        else:
            self._end()

    def _take_frames(self) -> None:
        """Hands over what has come, frame by frame."""
        buffer = self._buffer
        at = 0
        try:
            while len(buffer) - at >= FRAME_HEADER_BYTES:
                size, checksum = frame_header(buffer, at)
                body_at = at + FRAME_HEADER_BYTES
                if len(buffer) < body_at + size:
                    break
                at = body_at + size
                payload = bytes(buffer[body_at:at])
                self._receive(decode_frame(payload, checksum, self._sender, self._transit, time.monotonic()))
        except DecodeError as error:
            self._error = error
            self._end()
        del buffer[:at]

    def _end(self) -> None:
        self._loop.unwatch(self._socket.fileno())
        self._loop.not_at_close(self._over.set)
        self._over.set()

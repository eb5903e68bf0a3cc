"""A snapshot file on its way to a peer: in chunks, each with a checksum, with acknowledgements, from where it was cut off.

    the sender                                              the receiver
    POST /raft/snapshot, Upgrade: metcd-snapshot/1   ──▶    has it a part of this very file, verified?
      X-Metcd-File-Size, X-Metcd-File-Ending; body: the MsgSnap
                              ◀──  101, X-Metcd-File-Offset: n     (or 4xx, 503: refused, and one sentence)
    chunk at n, chunk, chunk …                       ──▶    checksum right? written
                              ◀──  "1048576\\n"                     up to this byte; after each chunk
                                                            all there: verified as a whole, synced, renamed
                              ◀──  "done\\n"; or "broken: " or "refused: " and one sentence: the first goes on
                                   on another connection, the second is the end of it

    a chunk    0  4  size of the data, 1 to CHUNK_BYTES      little-endian
               4  4  crc32c over the chunk's offset in the file (8 bytes) and the data
               8  …  the data

Invariants:

1. A flipped bit is noticed with the chunk that has it, and not after the whole file; and a chunk that is not the next one
   is noticed, because its offset is in its checksum.
2. At most WINDOW_BYTES are on their way: what a slow receiver hasn't written gathers neither in the kernel's buffers, where
   it would stand before the heartbeats on a narrow link, nor in memory.
3. A receiver doesn't wait for ever: SNAPSHOT_GRACE_S, and then no slower than SNAPSHOT_BYTES_PER_S_MIN.
4. What names a file, so that its rest may follow a part of it: the snapshot's metadata, its size, and a checksum of its
   end, where the trailer has the checksum over all of it. Files of one entry are alike on all nodes, so the rest may come
   from another node. Should it all the same be another file, then the whole is refused (server/snapshot.py).

Follows etcd's rafthttp, snapshot_sender.go, which sends a snapshot as one body and begins anew after a cut.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from crc32c import crc32c

from server.limits import SNAPSHOT_BYTES_PER_S_MIN, SNAPSHOT_GRACE_S

__all__ = ["UPGRADE_SNAPSHOT", "Announced", "IncomingFile", "SnapshotRefused", "announced", "send_file"]

UPGRADE_SNAPSHOT = "metcd-snapshot/1"
CHUNK_BYTES = 256 << 10
WINDOW_BYTES = 1 << 20
ENDING_BYTES = 64  # the trailer and its header have 28; the rest is the end of the last pairs
LINE_BYTES_MAX = 2000
VERIFIED_BYTES_PER_S_MIN = 16 << 20  # how fast a receiver reads the whole file again before it says that it has it

_CHUNK = struct.Struct("<II")
_OFFSET = struct.Struct("<Q")


class SnapshotRefused(ConnectionError):
    """The receiver doesn't take this snapshot; the sentence says why. To send it again at once would not help."""


class Connection(Protocol):
    """The part of a socket that is used here."""

    def sendall(self, data: bytes, /) -> None: ...
    def settimeout(self, timeout_s: float, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Announced:
    """A file that is sent: its size in bytes, and the crc32c of its last ENDING_BYTES bytes."""

    size: int
    ending: int


def announced(file: BinaryIO) -> Announced:
    """What is said of an open file before it is sent; read from anywhere afterwards. Raises OSError. O(1)."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - ENDING_BYTES))
    return Announced(size, crc32c(file.read(ENDING_BYTES)))


def checksum_of(offset: int, data: bytes) -> int:
    """The checksum of a chunk that stands at `offset` in its file. O(len(data))."""
    return crc32c(data, crc32c(_OFFSET.pack(offset)))


# ---- the sender -----------------------------------------------------------------------------------------------------


def send_file(connection: Connection, lines: BinaryIO, file: BinaryIO, offset: int, size: int, wait_s: float) -> int:
    """Sends a file from `offset` on, and waits until the receiver has all of it, verified; the bytes that were sent.

    lines: what the receiver says. wait_s: how long it may take over the end, besides the time for reading the file again.
    Raises SnapshotRefused, OSError. Memory: one chunk.
    """
    if not 0 <= offset <= size:
        raise SnapshotRefused(f"it has {offset} bytes of a file of {size}")
    file.seek(offset)
    begin = written = offset
    try:
        while offset < size:
            data = file.read(min(CHUNK_BYTES, size - offset))
            if not data:
                raise SnapshotRefused(f"the file ended at byte {offset} of {size}")
            connection.sendall(_CHUNK.pack(len(data), checksum_of(offset, data)) + data)
            offset += len(data)
            while offset - written > WINDOW_BYTES - CHUNK_BYTES:
                written = _written(lines)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have said why
    connection.settimeout(wait_s + size / VERIFIED_BYTES_PER_S_MIN)
    while (line := _line(lines)) != "done":
        _number(line)
    if offset < size:
        raise ConnectionError(f"node says that it has a file of {size} bytes, of which {offset} were sent")
    return offset - begin


def _written(lines: BinaryIO) -> int:
    return _number(_line(lines))


def _line(lines: BinaryIO) -> str:
    line = lines.readline(LINE_BYTES_MAX).decode("utf-8", "replace")
    if not line.endswith("\n"):
        raise ConnectionError("the connection ended before the snapshot was there")
    line = line.rstrip("\n")
    if line.startswith("refused: "):
        raise SnapshotRefused(line.removeprefix("refused: "))
    if line.startswith("broken: "):
        raise ConnectionError(line.removeprefix("broken: "))
    return line


def _number(line: str) -> int:
    if not (line.isascii() and line.isdigit() and len(line) <= 18):
        raise SnapshotRefused(f"a number of bytes was expected, and {line[:40]!r} came")
    return int(line)


# ---- the receiver ---------------------------------------------------------------------------------------------------


class IncomingFile:
    """The receiving end of one connection that brings a file."""

    def __init__(
        self, connection: Connection, read: Callable[[int], bytes], file: Announced, begin: Callable[[int], None]
    ) -> None:
        """read: some bytes of those that come, at most so many; b"" at the end. begin: tells the sender the offset."""
        self._connection = connection
        self._read = read
        self._file = file
        self._begin = begin
        self._deadline = 0.0
        self.begun = False

    def chunks(self, offset: int) -> Iterator[bytes]:
        """Asks for the file from `offset` on, and gives its chunks; each counts as written when the next is asked for.

        Raises ConnectionError for what ends early or was damaged on its way, TimeoutError, OSError.
        """
        self._begin(offset)
        self.begun = True
        self._deadline = time.monotonic() + SNAPSHOT_GRACE_S
        size = self._file.size
        while offset < size:
            length, checksum = _CHUNK.unpack(self._take(_CHUNK.size, size - offset))
            if not 0 < length <= min(CHUNK_BYTES, size - offset):
                raise ConnectionError(f"a chunk of {length:,} bytes was announced at byte {offset:,} of {size:,}")
            data = self._take(length, size - offset)
            if checksum != checksum_of(offset, data):
                raise ConnectionError(f"the {length:,} bytes from byte {offset:,} on were damaged on their way")
            yield data
            offset += length
            self.say(b"%d\n" % offset)

    def say(self, line: bytes) -> None:
        """Sends a line to the sender. Raises OSError."""
        self._connection.sendall(line)

    def _take(self, size: int, missing: int) -> bytes:
        """Exactly `size` bytes."""
        parts = []
        while size:
            part = self._read(size)
            if not part:
                raise ConnectionError(f"the connection ended {missing:,} bytes before the snapshot did")
            self._deadline += len(part) / SNAPSHOT_BYTES_PER_S_MIN
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"it comes too slowly, and {missing:,} bytes are missing")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

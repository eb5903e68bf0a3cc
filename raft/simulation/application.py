"""The replicated application of a simulated node: a checksum over everything that was applied.

Two nodes with the same checksum at the same index have applied the same history, so State Machine Safety is one
comparison of integers.
"""

from __future__ import annotations

import struct
import zlib

from raft.raftpb import ENTRY_NORMAL, Entry

__all__ = ["Application"]

_SNAPSHOT = struct.Struct("<QI")


class Application:
    """index: the last applied entry. checksum: of all entries up to it. data: the payloads that were applied."""

    def __init__(self) -> None:
        self.index = 0
        self.checksum = 0
        self.data: list[bytes] = []

    def apply(self, entry: Entry) -> None:
        """Applies the next entry. An entry out of order means that the library has broken its promise."""
        assert entry.index == self.index + 1, f"entry {entry.index} was handed out after {self.index}"
        self.index = entry.index
        self.checksum = zlib.crc32(entry.encode(), self.checksum)
        if entry.data and entry.type == ENTRY_NORMAL:
            self.data.append(entry.data)

    def snapshot(self) -> bytes:
        """The whole state, as bytes."""
        return _SNAPSHOT.pack(self.index, self.checksum) + b"\x00".join(self.data)

    def install(self, data: bytes) -> None:
        """Replaces the state by that of a snapshot."""
        self.index, self.checksum = _SNAPSHOT.unpack_from(data)
        rest = data[_SNAPSHOT.size :]
        self.data = rest.split(b"\x00") if rest else []

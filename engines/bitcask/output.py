"""Outputs: segments that are written beside the others, for a merge or a load.

    7.bitcask.data.new  ──finish──►  on the disk  ──publish──►  7.bitcask.data

Until `publish` nobody reads the file, and what a crash leaves of it is removed by the next opening. Its hint needs no
second reading of the data, as that of an active segment does: its entries are noted while the records are added.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engines.bitcask.hint import TOMBSTONE_BIT, Entry, encode_entry, encode_hint, key_of_entry, parse_entries
from engines.bitcask.segment import Segment, SegmentTable, data_path

__all__ = ["Output"]

BUFFER_BYTES = 1 << 20  # are written at once


class Output:
    """One segment in the making. One thread at a time. Every call may raise OSError."""

    def __init__(self, table: SegmentTable, file_id: int) -> None:
        self.segment = Segment(file_id)
        self.path = f"{data_path(table.directory, file_id)}.new"
        self._table = table
        self._entries: list[bytes] = []  # of its hint
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._file = table.begin_file(self.path, "w")

    def add(self, record: bytes, timestamp: int, key: bytes, tombstone: bool = False) -> None:
        """Appends an encoded record."""
        segment, size = self.segment, len(record)
        offset = segment.end
        self._entries.append(encode_entry(timestamp, size, offset | TOMBSTONE_BIT if tombstone else offset, key))
        if tombstone:
            segment.tombstone_bytes += size
        segment.end += size
        self._buffer.append(record)
        self._buffered_bytes += size
        if self._buffered_bytes >= BUFFER_BYTES:
            self._write()

    def hint(self) -> bytes:
        """The hint of all that was added, in the order of the keys as each of ours (engines.bitcask.scan)."""
        return encode_hint(sorted(self._entries, key=key_of_entry))

    def entries(self) -> Iterator[Entry]:
        """What was added, one entry for each record, in the order of the file."""
        body = b"".join(self._entries)
        return parse_entries(body, len(body))

    def _write(self) -> None:
        self._file.append(b"".join(self._buffer))
        self._table.stats.bytes_written += self._buffered_bytes
        self._buffer = []
        self._buffered_bytes = 0

    def finish(self, site: str) -> None:
        """Brings the records to the disk, under the name that nobody reads."""
        self._write()
        self._table.sync(self._file, site)
        self._file.close()

    def publish(self) -> None:
        """Gives the file its name, which the caller syncs. Requires: `finish`."""
        table, segment = self._table, self.segment
        table.env.rename(self.path, data_path(table.directory, segment.id))
        table.live[segment.id] = segment

    def discard(self) -> None:
        """Removes the file, unless it is published; what can't be removed now is removed by the next opening."""
        self._file.close()
        if self.segment.id not in self._table.live:
            with contextlib.suppress(OSError):
                self._table.env.unlink(self.path)

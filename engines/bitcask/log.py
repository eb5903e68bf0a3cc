"""The writing end: records go to the end of the active segment, in one copy for each write.

    put      [record]                                  the key is new, or lives in this segment
             [half of an overwrite][record]            it lives in an older segment
    batch    [mark][tombstone or record]...            several records, all or none of them
    either   [mark] before it                          if 4 KiB have been synced since the last mark

Every one of these is one assignment to the mapping, and recovery takes it as a whole or not at all
(engines.bitcask.record, engines.bitcask.recovery). A key that lives in an older segment gets a tombstone for its old
record: our own merges don't need it, Riak's do. So overwriting costs 52 bytes more once the old value is in a closed
file.

Invariants:

1. `active` is None or the segment with the greatest id; it is made by the first write that needs it, so that opening
   and closing a store leaves no empty file behind.
2. A write returns the new places and changes nothing in the keydir: that is the store's, when the data is where the
   caller wants it, in the page cache or on the disk.
3. `live_bytes` of all segments are right after every call: old records are dead when the new ones are written.

A mark has the empty key, under which a user of Riak may have stored a value. While that is live, no mark is written
alone, and whoever calls `batch` or `bury` lets the value come behind the mark once more: so the last record of the
empty key is the user's, for Riak and for us.

One thread at a time: the store's writer lock is around every call. Follows bitcask:do_put and bitcask_fileops:write.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

from engines.bitcask.keydir import SEGMENT_SHIFT, SIZE_BITS, SIZE_MASK, Changes
from engines.bitcask.record import (
    HALF_TIMESTAMP,
    HEADER_BYTES,
    MARK_BYTES,
    MAX_TIMESTAMP,
    Mark,
    encode_mark,
    encode_record,
    encode_tombstone,
)
from engines.bitcask.scan import hint_of, scan_entries
from engines.bitcask.segment import MARK_EVERY_BYTES, ActiveSegment, SegmentTable
from engines.env import Env

__all__ = ["Log"]

TOMBSTONE_BYTES = HEADER_BYTES + 22  # and the key

Places = Mapping[bytes, int]


class Log:
    """Appends to the active segment of a table, and starts a new one when it is full. Every call may raise OSError."""

    def __init__(self, env: Env, table: SegmentTable, max_file_size: int) -> None:
        self.active: ActiveSegment | None = None
        self.rotations = 0
        self._unix_time = env.unix_time
        self._time = 0
        self._table = table
        self._stats = table.stats
        self._max_file_size = max_file_size

    def not_before(self, timestamp: int) -> None:
        """Timestamps begin here, whatever the clock says."""
        self._time = timestamp

    def timestamp(self) -> int:
        """Now, as records have it: not less than before, and never 0."""
        self._time = time = max(1, self._time, min(int(self._unix_time()), MAX_TIMESTAMP))
        return time

    def put(self, places: Places, key: bytes, value: bytes, sync: bool) -> int:
        """Appends a value; returns its place. O(1): 1 µs and the copy."""
        size = HEADER_BYTES + len(key) + len(value)
        active = self.active
        if active is None or active.end + size > self._max_file_size:
            active = self._room_for(size)
        timestamp = int(self._unix_time())
        if timestamp != self._time:
            timestamp = self.timestamp()
        home = active.id
        old = places.get(key)
        if old is not None:
            home = old >> SEGMENT_SHIFT
            self._table.live[home].live_bytes -= old & SIZE_MASK
        if home == active.id:
            data = encode_record(timestamp, key, value)
        else:
            data = encode_tombstone(HALF_TIMESTAMP, key, home) + encode_record(timestamp, key, value)
        if active.synced - active.marked >= MARK_EVERY_BYTES and b"" not in places:
            data = self._mark(active) + data
        end = active.end + len(data)
        if end > active.allocated:
            self._grow(active, len(data))
        active.map[active.end : end] = data
        active.end = end
        active.live_bytes += size
        self._stats.bytes_written += len(data)
        if sync:
            self.sync()
        return active.id << SEGMENT_SHIFT | (end - size) << SIZE_BITS | size

    def batch(self, places: Places, operations: Mapping[bytes, bytes | None], sync: bool) -> Changes:
        """Appends one operation for each key (None deletes it); returns the places. O(operations).

        Deleting what is absent writes nothing; with `sync` it waits for what may have made it absent.
        """
        operations = {key: value for key, value in operations.items() if value is not None or key in places}
        changes: Changes = {}
        if operations:
            active = self._room_for(
                MARK_BYTES + sum(HEADER_BYTES + len(k) + len(v or b"") for k, v in operations.items())
            )
            due = active.synced - active.marked >= MARK_EVERY_BYTES and b"" not in places
            mark_bytes = MARK_BYTES if len(operations) > 1 or due else 0
            records, changes = self._records(places, operations, active, active.end + mark_bytes)
            if mark_bytes:
                self._append_marked(active, len(records), b"".join(records))
            else:
                self._append(active, b"".join(records))
        if sync:
            self.sync()
        return changes

    def bury(self, places: Places, values: Mapping[bytes, bytes | None], file_id: int) -> Changes:
        """Appends tombstones for records of the keys in the file `file_id`, a merge's output, and behind them their
        live values once more; None for a key that is absent. On the disk when it returns, all or none of it.
        """
        again = {key: value for key, value in values.items() if value is not None}
        size = sum(2 * TOMBSTONE_BYTES + HEADER_BYTES + 3 * len(k) + len(v or b"") for k, v in values.items())
        active = self._room_for(MARK_BYTES + size)
        tombstones = [encode_tombstone(self.timestamp(), key, file_id) for key in values]
        active.tombstone_bytes += sum(TOMBSTONE_BYTES + len(key) for key, value in values.items() if value is None)
        start = active.end + MARK_BYTES + sum(map(len, tombstones))
        records, changes = self._records(places, again, active, start)
        self._append_marked(active, len(tombstones) + len(records), b"".join(tombstones + records))
        self.sync()
        return changes

    def _records(
        self, places: Places, operations: Mapping[bytes, bytes | None], active: ActiveSegment, offset: int
    ) -> tuple[list[bytes], Changes]:
        """The records of a batch that is going to begin at `offset`, and the places in it.

        One operation alone has no mark before it: then the tombstone of an overwrite is half of it.
        """
        timestamp, get, live = self.timestamp(), places.get, self._table.live
        file_id, base = active.id, active.id << SEGMENT_SHIFT
        alone = offset == active.end
        records: list[bytes] = []
        changes: dict[bytes, int | None] = {}
        live_bytes = 0
        for key, value in operations.items():
            old = get(key)
            if old is not None:
                home = old >> SEGMENT_SHIFT
                live[home].live_bytes -= old & SIZE_MASK
                if value is None or home != file_id:
                    half = alone and value is not None
                    tombstone = encode_tombstone(HALF_TIMESTAMP if half else timestamp, key, home)
                    records.append(tombstone)
                    offset += len(tombstone)
                    if value is None:
                        active.tombstone_bytes += len(tombstone)
                        changes[key] = None
                        continue
            record = encode_record(timestamp, key, value or b"")
            size = len(record)
            records.append(record)
            changes[key] = base | offset << SIZE_BITS | size
            offset += size
            live_bytes += size
        active.live_bytes += live_bytes
        return records, changes

    def _append_marked(self, active: ActiveSegment, records: int, body: bytes) -> None:
        """Appends records that belong together, behind their mark."""
        self._append(active, self._mark(active, records, len(body), crc32(body)) + body)

    def _mark(self, active: ActiveSegment, records: int = 0, size_bytes: int = 0, crc: int = 0) -> bytes:
        """A mark for the present end of the segment."""
        active.marked = active.synced
        mark = Mark(active.id, active.end, active.synced, records, size_bytes, crc)
        return encode_mark(self.timestamp(), mark)

    def _append(self, active: ActiveSegment, data: bytes) -> None:
        if active.end + len(data) > active.allocated:
            self._grow(active, len(data))
        active.map[active.end : active.end + len(data)] = data
        active.end += len(data)
        self._stats.bytes_written += len(data)

    def _grow(self, active: ActiveSegment, size: int) -> None:
        active.reserve(size)
        self._table.views[active.id] = active.map

    def _room_for(self, size: int) -> ActiveSegment:
        """An active segment that has room for `size` bytes more, or is empty."""
        if self.active is not None and 0 < self.active.end > self._max_file_size - size:
            self.seal()
            self.rotations += 1
        if self.active is None:
            self.active = self._table.create(self._max_file_size)
        return self.active

    def sync(self) -> None:
        """Brings everything that was written to the disk."""
        active = self.active
        if active is not None and active.synced != active.end:
            self._table.sync(active.file, "bitcask.append")
            active.synced = active.end

    def seal(self) -> None:
        """Closes the active segment, if there is one. Reads it once, for its hint: 0.8 µs a record."""
        if self.active is not None:
            entries, end = scan_entries(self.active.map, self.active.end, self.active.id)
            assert end == self.active.end, "what was written is not what is read"
            self._table.seal(self.active, hint_of(entries))
            self.active = None

    def abandon(self) -> None:
        """Closes the active segment, if there is one, because a load is about to make it void."""
        if self.active is not None:
            self._table.abandon(self.active)
            self.active = None

    def drop(self) -> None:
        """Closes the active segment's file and does nothing for it: the store has failed."""
        if self.active is not None:
            self.active.file.close()
            self.active = None

"""The writing end: records go to the end of the active segment, in one copy for each write.

    one operation        [record]                                     a new value, or the tombstone of a deletion
                         [half of an overwrite][record]               the key's old value is in an older segment
                         [mark] before either                         if 4 KiB have been synced since the last mark
    several              [mark][tombstone or record]...               all of them or none

Each write is one assignment to the mapping, and recovery takes it as a whole or not at all (engines.bitcask.record,
engines.bitcask.scan).

Invariants:

1. `active` is None or the segment with the greatest id; it is made by the first write that needs it, so that opening
   and closing a store leaves no empty file.
2. A write returns the new places and changes nothing in the keydir. The writer does that when the data is where its
   caller wants it, in the page cache or on the disk.
3. `live_bytes` of all segments are right after every call: old records are dead when the new ones are written.

One thread at a time: callers hold the writer's lock. Follows bitcask:do_put and bitcask_fileops:write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from zlib import crc32

from engines.bitcask.keydir import Changes, Keydir
from engines.bitcask.place import SIZE_BITS, Place, pack, unpack
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

__all__ = ["Log", "Operations", "Places", "tombstone_for"]

TOMBSTONE_BYTES = HEADER_BYTES + 22  # and the key

Places = Mapping[bytes, Place]
Operations = Mapping[bytes, bytes | None]  # key → value, None for a deletion


def tombstone_for(key: bytes, value: bytes | None, old: Place, active_id: int, timestamp: int, in_batch: bool) -> bytes:
    """The tombstone that has to be written for the record that `key` has so far, at `old`, before `value`; or b"".

    A deletion (`value` is None) needs one, wherever the old record is: it is all that the deletion leaves in a file. A
    new value needs none if the old record is in the segment that it is appended to, the one with the id `active_id`. If
    it is in an older one, Riak's merges need one (engines.bitcask.record), and alone it must not count if the power is
    cut before the value is written: then its time is HALF_TIMESTAMP, unless the two are in a batch, whose mark sees to
    that. In all other cases its time is `timestamp`. A tombstone names the file of the old record. O(1).
    """
    home, _, _ = unpack(old)
    if value is None or (home != active_id and in_batch):
        return encode_tombstone(timestamp, key, home)
    return encode_tombstone(HALF_TIMESTAMP, key, home) if home != active_id else b""


class Log:
    """Appends to the active segment of a table, and begins a new one when it is full. Every call may raise OSError."""

    def __init__(self, env: Env, table: SegmentTable, max_file_size: int) -> None:
        self.active: ActiveSegment | None = None
        self.keydir: Keydir | None = None  # the core's: a faster `seal` asks it which records are live
        self.rotations = 0  # since somebody looked whether a merge is due
        self.last_timestamp = 0
        self.next_second = -math.inf  # until then the clock has nothing new for `timestamp`
        self.unix_time = env.unix_time
        self.max_file_size = max_file_size
        self._table = table
        self._stats = table.stats

    def timestamp(self) -> int:
        """The time for a record, in seconds: not less than the one before, and never 0."""
        # Riak's merges believe timestamps, so they must not go back when the clock does
        self.last_timestamp = time = max(1, self.last_timestamp, min(int(self.unix_time()), MAX_TIMESTAMP))
        self.next_second = time + 1.0
        return time

    # ---- writing ----------------------------------------------------------------------------------------------------

    def batch(self, places: Places, operations: Operations, sync: bool) -> Changes:
        """Appends one operation for each key; returns the new places. O(operations).

        Deleting what is absent writes nothing; with `sync` it waits for the write that may have made it absent.
        """
        operations = {key: value for key, value in operations.items() if value is not None or key in places}
        changes: Changes = {}
        if operations:
            several = len(operations) > 1
            size = sum(HEADER_BYTES + len(key) + len(value or b"") for key, value in operations.items())
            active = self.room_for(size + MARK_BYTES if several else size)
            if several:
                # the mark holds the checksum of what follows it, so the records are made first
                records, changes = self._records(places, operations, active, active.end + MARK_BYTES)
                self._append_batch(active, records)
            else:
                mark = self.mark_if_due(active, places)
                records, changes = self._records(places, operations, active, active.end + len(mark))
                self._append(active, mark + b"".join(records))
        if sync:
            self.sync()
        return changes

    def bury(self, places: Places, values: Operations, file_id: int) -> Changes:
        """Appends tombstones for the records of these keys in the file `file_id`, a merge's output, and after them the
        keys' live values once more; None for a key that is absent. On the disk when it returns, all or none of it.
        """
        again = {key: value for key, value in values.items() if value is not None}
        size = sum(
            2 * TOMBSTONE_BYTES + HEADER_BYTES + 3 * len(key) + len(value or b"") for key, value in values.items()
        )
        active = self.room_for(MARK_BYTES + size)
        tombstones = [encode_tombstone(self.timestamp(), key, file_id) for key in values]
        active.tombstone_bytes += sum(TOMBSTONE_BYTES + len(key) for key, value in values.items() if value is None)
        start = active.end + MARK_BYTES + sum(map(len, tombstones))
        records, changes = self._records(places, again, active, start, in_batch=True)
        self._append_batch(active, tombstones + records)
        self.sync()
        return changes

    def _records(
        self, places: Places, operations: Operations, active: ActiveSegment, offset: int, in_batch: bool = False
    ) -> tuple[list[bytes], Changes]:
        """The records of some operations, and what the keydir will be told of them when they are written.

        `operations` are key → value, or None for a deletion; the first record is going to stand at `offset` of the active
        segment, and each next one where the one before ends. For each operation, in order:

        * if the key has a place in `places`: the tombstone of that (`tombstone_for`), unless it is empty. And that the
          old record is dead from now on: `_count_dead(active, old place, the tombstone)`, the latter b"" if the
          operation is a put.
        * for a put: the value's record, whose bytes are added to `active.live_bytes`.

        All records have the same time, that of `timestamp()`. The changes are key → the place of the new value (`pack`),
        None for a deletion. Of more than one operation all are in a batch, also if `in_batch` doesn't say so.
        """
        in_batch = in_batch or len(operations) > 1
        timestamp, base = self.timestamp(), pack(active.id, 0, 0)
        records: list[bytes] = []
        changes: dict[bytes, Place | None] = {}
        for key, value in operations.items():
            old = places.get(key)
            if old is not None:
                tombstone = tombstone_for(key, value, old, active.id, timestamp, in_batch)
                self._count_dead(active, old, tombstone if value is None else b"")
                if tombstone:
                    records.append(tombstone)
                    offset += len(tombstone)
            if value is None:
                changes[key] = None
                continue
            record = encode_record(timestamp, key, value)
            records.append(record)
            changes[key] = base | offset << SIZE_BITS | len(record)  # `pack`, without a call for each key
            active.live_bytes += len(record)
            offset += len(record)
        return records, changes

    def _count_dead(self, active: ActiveSegment, old: Place, tombstone: bytes) -> None:
        """The record at `old` is dead, because of a deletion if `tombstone` isn't empty."""
        home, _, old_size = unpack(old)
        self._table.live[home].live_bytes -= old_size
        active.tombstone_bytes += len(tombstone)

    def _append_batch(self, active: ActiveSegment, records: list[bytes]) -> None:
        """Appends records that belong together, after their mark: all of it in one `_append`.

        `_mark` makes the mark, of the number of the records, their size together, and the crc32 of all their bytes. So
        recovery sees whether all of them are there.
        """
        body = b"".join(records)
        self._append(active, self._mark(active, len(records), len(body), crc32(body)) + body)

    def mark_if_due(self, active: ActiveSegment, places: Places) -> bytes:
        """A mark that only says how far the segment is synced, if that has grown by 4 KiB since the last one; or b"".

        A user of Riak may have stored a value under the empty key, which is that of marks. While it is live no mark is
        written alone: the last record of the empty key has to stay the user's, for Riak and for us.
        """
        if active.synced - active.marked >= MARK_EVERY_BYTES and b"" not in places:
            return self._mark(active)
        return b""

    def _mark(self, active: ActiveSegment, records: int = 0, size_bytes: int = 0, crc: int = 0) -> bytes:
        """A mark for the present end of the segment."""
        active.marked = active.synced
        mark = Mark(active.id, active.end, active.synced, records, size_bytes, crc)
        return encode_mark(self.timestamp(), mark)

    def _append(self, active: ActiveSegment, data: bytes) -> None:
        """Copies `data` to the end of the active segment, with one assignment to a slice of its `map`.

        First `grow` makes sure that there is room. Afterwards `active.end` is the end of what was copied, and
        `_stats.bytes_written` has grown by it. Not on the disk yet: `sync` does that. Raises OSError (a full disk).
        """
        self.grow(active, len(data))
        active.map[active.end : active.end + len(data)] = data
        active.end += len(data)
        self._stats.bytes_written += len(data)

    def grow(self, active: ActiveSegment, size: int) -> None:
        """Makes sure that `size` bytes more are allocated."""
        if active.end + size > active.allocated:
            active.reserve(size)
            self._table.views[active.id] = active.map  # readers of the old mapping see the same pages

    def room_for(self, size: int) -> ActiveSegment:
        """An active segment that is not full with `size` bytes more, or is empty."""
        if self.active is not None and self.active.is_full(size, self.max_file_size):
            self.seal()
            self.rotations += 1
        if self.active is None:
            self.active = self._table.create(self.max_file_size)
        return self.active

    def sync(self) -> None:
        """Brings everything that was appended to the disk, by one sync of the active segment's file.

        `_table.sync(file, site)` syncs and counts; the site is "bitcask.append". `active.synced` says how far the segment
        has been synced: afterwards that is its end. Nothing to do if that is so already, or if no segment is active.
        Raises OSError, and then `synced` stays.
        """
        active = self.active
        if active is not None and active.synced != active.end:
            self._table.sync(active.file, "bitcask.append")
            active.synced = active.end

    # ---- the end of a segment ---------------------------------------------------------------------------------------

    def seal(self) -> None:
        """Closes the active segment for good, if there is one. Reads it once, for its hint: 0.8 µs a record."""
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

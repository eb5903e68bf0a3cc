"""The records of a batch in one loop, and a segment's end. In place of log.Log."""

from __future__ import annotations

from zlib import crc32

from engines.bitcask.fast.sealing import hint_of_active
from engines.bitcask.keydir import Changes
from engines.bitcask.log import Log, Operations, Places, tombstone_for
from engines.bitcask.place import SIZE_BITS, Place, pack
from engines.bitcask.record import AFTER_CRC, HEADER_BYTES, MARK_BYTES
from engines.bitcask.segment import ActiveSegment

__all__ = ["FastLog"]


class FastLog(Log):
    """Stands in for Log."""

    def batch(self, places: Places, operations: Operations, sync: bool) -> Changes:
        """Stands in for Log.batch, where nothing is deleted: then no operation can be superfluous.

        Saves a second dict of the operations, and adds up lengths without a line of Python for each: for each put of a
        batch of 1000, 0.25 µs -> 0.06 µs.
        """
        values = operations.values()
        if len(operations) < 2 or None in values:
            return super().batch(places, operations, sync)
        size = HEADER_BYTES * len(operations) + sum(map(len, operations)) + sum(map(len, values))  # type: ignore[arg-type]
        active = self.room_for(size + MARK_BYTES)
        records, changes = self._records(places, operations, active, active.end + MARK_BYTES)
        self._append_batch(active, records)
        if sync:
            self.sync()
        return changes

    def seal(self) -> None:
        """Stands in for Log.seal."""
        active = self.active
        if active is not None and self.keydir is not None:
            self._table.seal(active, hint_of_active(active, self.keydir.places))
            self.active = None

    def _records(
        self, places: Places, operations: Operations, active: ActiveSegment, offset: int, in_batch: bool = False
    ) -> tuple[list[bytes], Changes]:
        """Stands in for Log._records; saves the calls of encode_record, and sums for each record.

        For each put of a batch of 1000, 0.8 µs -> 0.5 µs.
        """
        in_batch = in_batch or len(operations) > 1
        timestamp, pack_head = self.timestamp(), AFTER_CRC.pack
        at = pack(active.id, offset, 0)
        live_bytes = 0
        records: list[bytes] = []
        append = records.append
        changes: dict[bytes, Place | None] = {}
        for key, value in operations.items():
            if key in places:
                old = places[key]
                tombstone = tombstone_for(key, value, old, active.id, timestamp, in_batch)
                self._count_dead(active, old, tombstone if value is None else b"")
                if tombstone:
                    append(tombstone)
                    at += len(tombstone) << SIZE_BITS
            if value is None:
                changes[key] = None
                continue
            record = pack_head(timestamp, len(key), len(value)) + key + value
            record = crc32(record).to_bytes(4) + record
            append(record)
            size = len(record)
            changes[key] = at | size
            live_bytes += size
            at += size << SIZE_BITS
        active.live_bytes += live_bytes
        return records, changes

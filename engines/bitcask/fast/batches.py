"""The records of a batch of puts in one loop; and what seals a segment. In place of log.Log."""

from __future__ import annotations

from zlib import crc32

from engines.bitcask.fast.sealing import hint_of_active
from engines.bitcask.keydir import Changes
from engines.bitcask.log import Log, Operations, Places
from engines.bitcask.place import FILE_SHIFT, SIZE_BITS, SIZE_MASK, Place
from engines.bitcask.record import AFTER_CRC, CRC, MARK_BYTES

__all__ = ["FastLog"]


class FastLog(Log):
    """Stands in for Log."""

    def batch(self, places: Places, operations: Operations, sync: bool) -> Changes:
        """Stands in for Log.batch, if nothing is deleted, and no old value is in another segment: there is no tombstone
        then. An operation of 1000 1.1 µs -> 0.7 µs, without the calls that fill the batch.
        """
        active = self.active
        if active is None or len(operations) < 2:
            return super().batch(places, operations, sync)
        pack, pack_crc, get = AFTER_CRC.pack, CRC.pack, places.get
        timestamp, file_id = self.timestamp(), active.id
        base, start = file_id << FILE_SHIFT, active.end + MARK_BYTES
        records: list[bytes] = []
        changes: dict[bytes, Place | None] = {}
        dead_bytes, end = 0, start
        for key, value in operations.items():
            old = get(key)
            if value is None or (old is not None and old >> FILE_SHIFT != file_id):
                return super().batch(places, operations, sync)
            if old is not None:
                dead_bytes += old & SIZE_MASK
            body = pack(timestamp, len(key), len(value)) + key + value
            record = pack_crc(crc32(body)) + body
            records.append(record)
            changes[key] = base | end << SIZE_BITS | len(record)
            end += len(record)
        if active.is_full(end - active.end, self.max_file_size):
            return super().batch(places, operations, sync)
        active.live_bytes += end - start - dead_bytes
        self._append_batch(active, records)
        if sync:
            self.sync()
        return changes

    def seal(self) -> None:
        """Stands in for Log.seal, which reads the records once more with `scan_entries` for `hint_of`."""
        active = self.active
        if active is not None and self.keydir is not None:
            self._table.seal(active, hint_of_active(active, self.keydir.places))
            self.active = None

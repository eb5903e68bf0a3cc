"""Scans that read a record without a call for each. In place of snapshot.BitcaskSnapshot."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from engines.bitcask.place import FILE_SHIFT, OFFSET_MASK, SIZE_BITS, SIZE_MASK
from engines.bitcask.record import HEADER, HEADER_BYTES
from engines.bitcask.snapshot import CHUNK, FIRST_CHUNK, BitcaskSnapshot
from engines.kvstore import Pair

__all__ = ["FastSnapshot"]


class FastSnapshot(BitcaskSnapshot):
    """Stands in for BitcaskSnapshot."""

    def _pairs(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        """Stands in for BitcaskSnapshot._pairs: Core.read and read_record are written out, and verify the same.

        A pair 0.91 µs -> 0.62 µs. Whatever is wrong with a record, Core.read says: it reads it once more.
        """
        core, moment = self.core, self.moment
        views, unpack = core.table.views, HEADER.unpack_from
        after = False
        count = FIRST_CHUNK
        while stop is None or start < stop:
            with core.mutex: keys, places = self._chunk(start, stop, count, after, reverse)  # fmt: skip  # noqa: E701
            for key, place in zip(keys, places):
                if not moment.open:
                    self.check_open()
                if place is None:
                    continue
                size = place & SIZE_MASK
                offset = place >> SIZE_BITS & OFFSET_MASK
                try:
                    record = views[place >> FILE_SHIFT][offset : offset + size]
                except KeyError:  # not mapped
                    record = b""
                if len(record) == size:
                    crc, _, key_size, _ = unpack(record)
                    if crc32(record[4:]) == crc and key_size == len(key) and record.startswith(key, HEADER_BYTES):
                        core.bytes_read += size
                        core.scanned += 1
                        yield key, record[HEADER_BYTES + key_size :]
                        continue
                yield key, self._read(key, place)
            if len(keys) < count:
                return
            if reverse:
                stop = keys[-1]
            else:
                start, after = keys[-1], True
            count = CHUNK

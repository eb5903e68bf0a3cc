"""Scans that read a record without a call for each. In place of snapshot.BitcaskSnapshot."""

from __future__ import annotations

from collections.abc import Iterator
from struct import error as StructError
from zlib import crc32

from engines.bitcask.fast.reading import FastCore
from engines.bitcask.place import FILE_SHIFT, OFFSET_MASK, SIZE_BITS, SIZE_MASK, Place
from engines.bitcask.snapshot import CHUNK, FIRST_CHUNK, BitcaskSnapshot
from engines.kvstore import Pair, scan_bounds

__all__ = ["FastSnapshot"]


class FastSnapshot(BitcaskSnapshot):
    """Stands in for BitcaskSnapshot."""

    core: FastCore

    def __init__(self, core: FastCore, store: object) -> None:
        """As BitcaskSnapshot's, without a call for the mutex."""
        self.core = core
        self._store = store
        with core.mutex: self.moment = core.new_moment()  # fmt: skip  # noqa: E701

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        """Stands in for BitcaskSnapshot.scan: bounds that need no work get none."""
        if prefix is not None or type(start) is not bytes or (stop is not None and type(stop) is not bytes):
            start, stop = scan_bounds(start, stop, prefix)
        core = self.core
        if core.closed or core.failure is not None or not self.moment.open:
            self.check_open()
        return self._pairs(start, stop, reverse)

    def _chunk(
        self, start: bytes, stop: bytes | None, count: int, after: bool, reverse: bool
    ) -> tuple[list[bytes], list[Place | None]]:
        """Stands in for BitcaskSnapshot._chunk: without notes there is one order to ask."""
        core, moment = self.core, self.moment
        if moment.undo or core.closed or core.failure is not None or not moment.open:
            return super()._chunk(start, stop, count, after, reverse)
        places = moment.keydir.places
        keys = moment.keydir.order.take(places, start, stop, count, after=after, reverse=reverse)
        return keys, [*map(places.get, keys)]

    def _pairs(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        """Stands in for BitcaskSnapshot._pairs: Core.read and read_record are written out, and verify the same.

        A pair 1.0 µs -> 0.7 µs, of which 0.2 are the memory of records that lie anywhere, and 0.1 the checksum. Whatever
        is wrong with a record, Core.read says: it reads it once more.
        """
        core, moment = self.core, self.moment
        views, shapes = core.table.views, core.shapes
        after = False
        count = FIRST_CHUNK
        record_size = key_size = -1
        while stop is None or start < stop:
            with core.mutex: keys, places = self._chunk(start, stop, count, after, reverse)  # fmt: skip  # noqa: E701
            for key, place in zip(keys, places):
                if not moment.open:
                    self.check_open()
                if place is None:
                    continue
                size = place & SIZE_MASK
                try:
                    if size != record_size or len(key) != key_size:
                        body_of, fields_of = shapes[size << 16 | len(key)]
                        record_size, key_size = size, len(key)
                    crc, body = body_of(views[place >> FILE_SHIFT], place >> SIZE_BITS & OFFSET_MASK)
                    found_size, found, value = fields_of(body, 4)
                    right = crc32(body) == crc and found == key and found_size == key_size
                except (KeyError, TypeError, StructError):  # as in FastCore.read
                    right = False
                if right:
                    core.bytes_read += size
                    core.scanned += 1
                else:
                    value = self._read(key, place)
                yield key, value
            if len(keys) < count:
                return
            if reverse:
                stop = keys[-1]
            else:
                start, after = keys[-1], True
            count = CHUNK

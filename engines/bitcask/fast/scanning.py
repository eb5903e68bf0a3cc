"""Scans that read a record without a call for each. In place of snapshot.BitcaskSnapshot."""

from __future__ import annotations

from collections.abc import Iterator
from struct import error as StructError
from zlib import crc32

from engines.bitcask.core import Core
from engines.bitcask.fast.reading import FastCore
from engines.bitcask.place import FILE_SHIFT, OFFSET_MASK, SIZE_BITS, SIZE_MASK, Place
from engines.bitcask.snapshot import CHUNK, FIRST_CHUNK, BitcaskSnapshot
from engines.kvstore import Pair, scan_bounds

__all__ = ["FastSnapshot"]


class FastSnapshot(BitcaskSnapshot):
    """Stands in for BitcaskSnapshot."""

    core: FastCore

    @classmethod
    def scan_now(
        cls, core: Core, store: object, start: bytes, stop: bytes | None, prefix: bytes | None, reverse: bool
    ) -> Iterator[Pair]:
        """Stands in for BitcaskSnapshot.scan_now: the first keys come under the same hold of the mutex as the moment.

        Ten pairs 12.6 µs -> 7.1 µs, with `_pairs`.
        """
        if prefix is not None or type(start) is not bytes or not (stop is None or type(stop) is bytes):
            start, stop = scan_bounds(start, stop, prefix)
        snapshot = cls.__new__(cls)
        snapshot.core, snapshot.store = core, store  # type: ignore[assignment]
        with core.mutex: snapshot.moment = core.new_moment(); keys = core.keydir.order.take(core.keydir.places, start, stop, FIRST_CHUNK, after=False, reverse=reverse); places = [*map(core.keydir.places.get, keys)]  # fmt: skip  # noqa: E701, E702
        snapshot.check_open()
        return snapshot._pairs(start, stop, reverse, (keys, places))

    def _pairs(
        self,
        start: bytes,
        stop: bytes | None,
        reverse: bool,
        first: tuple[list[bytes], list[Place | None]] | None = None,
    ) -> Iterator[Pair]:
        """Stands in for BitcaskSnapshot._pairs: Core.read and read_record are written out, and verify the same.

        A pair 0.97 µs -> 0.50 µs in the processor's cache. In a store of 200,000 it is 0.7: 0.2 more are waiting for the
        memory of a record that lies anywhere. Whatever is wrong with a record, Core.read says: it reads it once more.
        """
        core, moment = self.core, self.moment
        views, shapes = core.table.views, core.shapes
        after = False
        count = FIRST_CHUNK
        record_size = key_size = -1
        while stop is None or start < stop:
            if first is None:
                with core.mutex: first = self._chunk(start, stop, count, after, reverse)  # fmt: skip  # noqa: E701
            keys, places = first
            first = None
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

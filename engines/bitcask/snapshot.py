"""Snapshots and scans: the store at one moment, while writes and merges go on.

A snapshot is an undo map over the keydir (engines.bitcask.keydir), and a number: the epoch in which it was opened.
Files that merges replace after that epoch stay on the disk until the snapshot is closed or forgotten. So opening one
costs O(1), and each key that is changed while it is open costs one note.

A scan is a snapshot of its own. It fetches the places of the next keys in chunks, under the store's mutex, and reads
the records without it: a chunk's files can't go away, because the scan's snapshot holds them.

Left out: reading a chunk's records in the order of the disk. Values are scattered over the files in the order in which
they were written, so a scan of what isn't cached is a random read for each key; that is Bitcask's nature.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING
from zlib import crc32

from engines.bitcask.keydir import NO_NOTE, OFFSET_MASK, SEGMENT_SHIFT, SIZE_BITS, SIZE_MASK, Keydir, Undo
from engines.bitcask.record import HEADER_BYTES
from engines.errors import StoreClosed
from engines.kvstore import Pair, Snapshot, check_key_type, scan_bounds
from engines.lifetime import holding

if TYPE_CHECKING:
    from engines.bitcask.store import BitcaskStore

__all__ = ["BitcaskSnapshot"]

FIRST_CHUNK = 16  # keys; a short scan shouldn't fetch many
CHUNK = 512  # keys that are fetched under one hold of the mutex: some 100 µs


class BitcaskSnapshot(Snapshot):
    """A view of one moment. Several threads may read it. Requires: made under the store's mutex."""

    def __init__(self, store: BitcaskStore, keydir: Keydir, epoch: int, number: int) -> None:
        self._store = store
        self._keydir = keydir
        self._number = number
        self._open = True
        self.epoch = epoch
        self.undo = Undo()

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """As the contract says; one read."""
        if type(key) is not bytes:
            check_key_type(key)
        self._check_open()
        place = self._place(key)
        if place is None:
            self._store._misses += 1
            return default
        try:
            return self._store._read(key, place)
        except KeyError:
            self._check_open()
            raise

    def _place(self, key: bytes) -> int | None:
        """Where the key was, without the lock: see invariant 2 of the keydir."""
        places, undo = self._keydir.places.get, self.undo.get
        while True:
            place: int | None = places(key)
            noted = undo(key, NO_NOTE)
            if noted != NO_NOTE:
                return noted
            if places(key) == place:
                return place

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        """As the contract says: O(log n) for each chunk, one read for each pair."""
        start, stop = scan_bounds(start, stop, prefix)
        self._check_open()
        return self._pairs(start, stop, reverse)

    def _pairs(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        inclusive = (True, False)
        count = FIRST_CHUNK
        while True:
            keys, places = self._chunk(start, stop, inclusive, reverse, count)
            if not keys:
                return
            yield from self._read_chunk(keys, places)
            if len(keys) < count:
                return
            if reverse:
                stop = keys[-1]
            else:
                start, inclusive = keys[-1], (False, False)
            count = CHUNK

    def _chunk(
        self, start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool, count: int
    ) -> tuple[list[bytes], list[int | None]]:
        """The next `count` keys of the keydir and of the undo map in one order, with their places in this snapshot.

        Each of the two gives its own next keys; what lies beyond `count` of both waits for the next call. A place is
        None for a key that this snapshot doesn't have.
        """
        if stop is not None and stop <= start:
            return [], []
        return holding(self._store._mutex, self._locked_chunk, start, stop, inclusive, reverse, count)

    def _locked_chunk(
        self, start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool, count: int
    ) -> tuple[list[bytes], list[int | None]]:
        self._check_open()
        undo = self.undo
        live, undone = self._keydir.keys(undo, start, stop, inclusive, reverse)
        keys = list(islice(live, count))
        get = self._keydir.places.get
        if not undo:
            return keys, list(map(get, keys))
        keys = sorted({*keys, *islice(undone, count)}, reverse=reverse)[:count]
        return keys, [undo[key] if key in undo else get(key) for key in keys]

    def _read_chunk(self, keys: list[bytes], places: list[int | None]) -> Iterator[Pair]:
        """Reads and verifies the records of a chunk, one at a time as they are asked for."""
        store = self._store
        views = store._table.views
        for key, place in zip(keys, places):
            if store.closed or not self._open:
                self._check_open()
            if place is None:
                continue
            view = views.get(place >> SEGMENT_SHIFT)
            if view is not None:
                size = place & SIZE_MASK
                offset = place >> SIZE_BITS & OFFSET_MASK
                record = view[offset : offset + size]
                if crc32(record[4:]) == int.from_bytes(record[:4]) and record.startswith(key, HEADER_BYTES):
                    store._hits_of_scans += 1
                    store._bytes_of_reads += size
                    yield key, record[HEADER_BYTES + len(key) :]
                    continue
            yield key, self._read_again(key, place)

    def _read_again(self, key: bytes, place: int) -> bytes:
        """The value of a pair whose file is not mapped, or gone, or damaged."""
        store = self._store
        try:
            value = store._read(key, place)
        except KeyError:
            self._check_open()
            raise
        store._hits -= 1  # it was no get
        store._hits_of_scans += 1
        return value

    def _check_open(self) -> None:
        self._store.check_usable()
        if not self._open:
            raise StoreClosed("the snapshot is closed: take another one")

    def close(self) -> None:
        """Lets go of the view, and removes the files that only it needed."""
        if self._open:
            self._open = False
            self._store._close_snapshot(self._number)
            self.undo.clear()

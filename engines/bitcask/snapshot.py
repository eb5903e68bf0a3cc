"""Snapshots and scans: the store at one moment, while writes and merges go on.

A snapshot is an undo map over the keydir (engines.bitcask.keydir), and a number: the epoch in which it was opened.
Files that merges replace after that epoch stay on the disk until the snapshot is closed or dropped. So opening one costs
O(1), and each key that is changed while it is open costs one note.

A scan is a snapshot of its own. It fetches the places of the next keys in chunks, under the mutex, and reads the records
without it: a chunk's files can't go away, because the scan's snapshot holds them.

Left out: reading a chunk's records in the order of the disk. Values are scattered over the files in the order in which
they were written, so a scan of what isn't cached is a random read for each key; that is Bitcask's nature.
"""

from __future__ import annotations

from collections.abc import Iterator

from engines.bitcask.core import Core
from engines.bitcask.place import Place
from engines.errors import StoreClosed
from engines.kvstore import Pair, Snapshot, check_key_type, scan_bounds
from engines.lifetime import holding

__all__ = ["BitcaskSnapshot"]

FIRST_CHUNK = 12  # keys; a short scan shouldn't fetch many, and ten pairs are a usual page
CHUNK = 512  # keys that are fetched under one hold of the mutex: some 100 µs


class BitcaskSnapshot(Snapshot):
    """A view of one moment. Several threads may read it.

    A store that is dropped is closed, and its snapshots with it. So each keeps `store`, and asks nothing of it.
    """

    def __init__(self, core: Core, store: object) -> None:
        self.core = core
        self.store = store
        self.moment = holding(core.mutex, core.new_moment)

    @classmethod
    def scan_now(
        cls, core: Core, store: object, start: bytes, stop: bytes | None, prefix: bytes | None, reverse: bool
    ) -> Iterator[Pair]:
        """The store's scan: one of a snapshot of its own, which ends with the iteration."""
        return cls(core, store).scan(start, stop, prefix=prefix, reverse=reverse)

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """As the contract says; one read."""
        check_key_type(key)
        self.check_open()
        place = self.moment.keydir.lookup(self.moment.undo, key)
        if place is None:
            self.core.misses += 1
            return default
        try:
            value = self.core.read(key, place)
        except KeyError:
            self.check_open()  # a file that this snapshot needs is gone, so it was closed meanwhile
            raise
        self.core.hits += 1
        return value

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
        self.check_open()
        return self._pairs(start, stop, reverse)

    def _pairs(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        core, moment = self.core, self.moment
        after = False
        count = FIRST_CHUNK
        while stop is None or start < stop:
            keys, places = holding(core.mutex, self._chunk, start, stop, count, after, reverse)
            for key, place in zip(keys, places):
                if not moment.open:
                    self.check_open()
                if place is not None:
                    yield key, self._read(key, place)
            if len(keys) < count:
                return
            if reverse:
                stop = keys[-1]
            else:
                start, after = keys[-1], True
            count = CHUNK

    def _read(self, key: bytes, place: Place) -> bytes:
        try:
            value = self.core.read(key, place)
        except KeyError:
            self.check_open()  # as in `get`
            raise
        self.core.scanned += 1
        return value

    def _chunk(
        self, start: bytes, stop: bytes | None, count: int, after: bool, reverse: bool
    ) -> tuple[list[bytes], list[Place | None]]:
        """The next `count` keys in order, with their places; None for a key that this snapshot doesn't have.

        They are keys of the keydir and of the undo map. Each of the two gives its own next keys; what lies beyond
        `count` of both waits for the next call. Requires: the mutex.
        """
        self.check_open()
        keydir, undo = self.moment.keydir, self.moment.undo
        keys, undone = keydir.keys(undo, start, stop, count, after=after, reverse=reverse)
        if not undo:
            return keys, list(map(keydir.places.get, keys))
        keys = sorted({*keys, *undone}, reverse=reverse)[:count]
        return keys, [undo[key] if key in undo else keydir.places.get(key) for key in keys]

    def check_open(self) -> None:
        """Raises StoreClosed or StoreFailed unless both the snapshot and the store can be used."""
        self.core.check_usable()
        if not self.moment.open:
            raise StoreClosed("the snapshot is closed: take another one")

    def close(self) -> None:
        """Lets go of the moment, and removes the files that only it needed."""
        if self.moment.open:
            self.core.close_moment(self.moment)

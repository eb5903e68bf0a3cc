"""Stores that lack a part, as a chapter runs them before the part is written (engines/bitcask/parts.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from engines.bitcask.core import Core
from engines.bitcask.parts import PLAIN
from engines.bitcask.policy import Merging
from engines.bitcask.segment import Segment, SegmentTable
from engines.bitcask.snapshot import BitcaskSnapshot
from engines.bitcask.store import BitcaskStore
from engines.kvstore import Pair, check_key_type, scan_bounds
from engines.lifetime import holding

__all__ = ["HALF_BUILT", "WithoutHints", "WithoutMerges", "WithoutSnapshots"]


class NoHints(SegmentTable):
    """Each opening reads all of the data."""

    def read_hint(self, segment: Segment) -> bytes | None:
        return None

    def write_hint(self, segment: Segment, hint: bytes) -> None:
        pass


class NoMerges(Merging):
    """Garbage stays."""

    def compact(self) -> None:
        self.core.check_usable()

    def merge(self, file_ids: Collection[int] | None) -> list[int]:
        return []


class CopiedSnapshot(BitcaskSnapshot):
    """Reads everything when it is opened, and remembers nothing of what is written later."""

    def __init__(self, core: Core, store: object) -> None:
        super().__init__(core, store)
        places = holding(core.mutex, dict, core.keydir.places)
        self._pairs_of_then = [(key, core.read(key, place)) for key, place in sorted(places.items())]
        core.moments.clear()

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        self.check_open()
        return dict(self._pairs_of_then).get(key, default)

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        start, stop = scan_bounds(start, stop, prefix)
        self.check_open()
        return self._between(start, stop, reverse)

    def _between(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        for key, value in sorted(self._pairs_of_then, reverse=reverse):
            if key >= start and (stop is None or key < stop):
                self.check_open()
                yield key, value


class WithoutHints(BitcaskStore):
    """The data is read at each opening."""

    parts = replace(PLAIN, table=NoHints)


class WithoutMerges(BitcaskStore):
    """No space is given back."""

    parts = replace(PLAIN, merging=NoMerges)


class WithoutSnapshots(BitcaskStore):
    """No undo maps: a snapshot, and so each scan, copies everything."""

    parts = replace(PLAIN, snapshot=CopiedSnapshot)


HALF_BUILT = (WithoutHints, WithoutMerges, WithoutSnapshots)

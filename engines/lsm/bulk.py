"""Replacing a store's whole content by a sorted stream: a Raft snapshot that is installed, an import.

    pairs ──► tables of level 6 (nobody knows them yet) ──► one edit: all old tables out, these in, a new log

1. The stream is read without any lock; it may come from a scan of this very store.
2. The edit decides: before it is on disk the old content counts, afterwards the new one. Old logs are not replayed any
   more, because the edit names a later one.
3. All pairs get one sequence: no key occurs twice, and nothing that was written before has a higher one.
4. Snapshots that are open are pinned to the state from before (snapshot.py).

The last level, because everything that is written later belongs above it, and nothing can lie below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Final

from engines.errors import InvalidKey
from engines.kvstore import Pair, check_key, check_value
from engines.lifetime import holding
from engines.lsm.keys import VALUE, pack_trailer
from engines.lsm.memtable import Rows
from engines.lsm.options import LEVELS
from engines.lsm.state import State
from engines.lsm.version import FileMeta, VersionEdit

if TYPE_CHECKING:
    from engines.lsm.core import Core
    from engines.lsm.store import LsmStore

__all__ = ["load"]

ROWS: Final = 256  # pairs that are handed to the table builder at once


def load(store: LsmStore, pairs: Iterable[Pair]) -> None:
    """Replaces the content. Raises InvalidKey, InvalidValue, what `pairs` raises (the old content stays), OSError."""
    core = store.core
    sequence = core.sequence + 1
    stream = _Stream(pairs, sequence)
    try:
        with core.numbers() as numbers:
            writer = core.table_writer(core.options, (sequence, sequence), numbers, "lsm.table.load")
            files = writer.write_all(stream)
            core.stats.bytes_written += writer.bytes_written
            core.stats.fsyncs += writer.fsyncs
            core.stats.user_bytes += stream.size_bytes
            holding(store.writer_lock, _stand_still, store, files, sequence)
        core.delete_obsolete()
    except BaseException as failure:
        if not stream.failed:
            store.poison(failure)
            raise
        if store.failure is None:  # else it is the next open's, or the parent's of a forked process
            core.delete_obsolete()  # what was written of the refused content
        raise


class _Stream:
    """The pairs as rows for a TableWriter, checked. `failed` says that what was raised came from them."""

    def __init__(self, pairs: Iterable[Pair], sequence: int) -> None:
        self._pairs = pairs
        self._trailer = pack_trailer(sequence << 8 | VALUE)
        self.failed = False
        self.size_bytes = 0

    def __iter__(self) -> Iterator[Rows]:
        previous = b""
        pairs = self._checked()
        while chunk := list(islice(pairs, ROWS)):
            keys = [key for key, _ in chunk]
            values = [value for _, value in chunk]
            if keys[0] <= previous or not all(map(lt, keys, islice(keys, 1, None))):
                self.failed = True
                at = next((at for at, key in enumerate(keys[1:]) if key <= keys[at]), None)
                first, second = (previous, keys[0]) if at is None or keys[0] <= previous else keys[at : at + 2]
                raise InvalidKey(f"load wants strictly ascending keys, and {second[:40]!r} comes after {first[:40]!r}")
            previous = keys[-1]
            self.size_bytes += sum(map(len, keys)) + sum(map(len, values))
            yield keys, [key + self._trailer for key in keys], values

    def _checked(self) -> Iterator[Pair]:
        try:
            for key, value in self._pairs:
                check_key(key)
                check_value(value)
                yield key, value
        except GeneratorExit:
            raise
        except BaseException:
            self.failed = True
            raise


def _stand_still(store: LsmStore, files: list[FileMeta], sequence: int) -> None:
    lanes = store.background
    holding(lanes.flush_lock, holding, lanes.compaction_lock, _replace, store, files, sequence)


def _replace(store: LsmStore, files: list[FileMeta], sequence: int) -> None:
    """Rules 2 and 4. Requires: the three locks."""
    store._check_writable()
    core = store.core
    old_log = core.log
    assert old_log is not None
    core.new_log()  # this syncs the directory, and with it the tables' names
    edit = VersionEdit(log_number=core.log_number, previous_log_number=0)
    edit.last_sequence = max(core.sequence, sequence)
    edit.deleted = [(level, file.number) for level, file in core.versions.current.files()]
    edit.added = [(LEVELS - 1, file) for file in files]
    core.versions.apply(edit)
    holding(core.state_lock, _turn, core, edit.last_sequence)
    old_log.close()


def _turn(core: Core, sequence: int) -> None:
    for snapshot in core.snapshots:
        if snapshot.pinned is None:
            snapshot.pinned = core.state
    core.sequence = sequence  # before the state: a reader takes the state first
    core.frozen.clear()
    core.state = State(core.new_memtable(), (), core.versions.current)

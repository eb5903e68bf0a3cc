"""Replacing a store's whole content by a sorted stream: a Raft snapshot that is installed, an import.

    pairs ──► tables of level 6 (in no manifest yet) ──► one edit: all old tables out, these in, a new log

1. The stream is read without any lock; it may come from a scan of this very store.
2. The edit decides: before it is on disk the old content counts, afterwards the new one. Old logs are not replayed any
   more, because the edit names a later one.
3. All pairs get one sequence: no key occurs twice, and nothing that was written before has a higher one.
4. Snapshots that are open are pinned to the state from before (snapshot.py).

The last level, because everything that is written later belongs above it, and nothing can lie below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engines.kvstore import Pair
from engines.lifetime import holding
from engines.lsm.background import Background
from engines.lsm.core import Core
from engines.lsm.options import LEVELS
from engines.lsm.state import State
from engines.lsm.version import FileMeta, VersionEdit
from engines.lsm.writer import Writer
from engines.pairs import ascending

__all__ = ["load"]


def load(core: Core, background: Background, writer: Writer, pairs: Iterable[Pair]) -> None:
    """Replaces the content of a store, whose parts the others are. Raises InvalidKey, InvalidValue, what `pairs` raises (the old content stays), OSError."""
    sequence = core.sequence + 1
    stream = _Stream(pairs)
    try:
        with core.numbers() as numbers:
            tables = core.table_writer(core.options, (sequence, sequence), numbers, "lsm.table.load")
            files = tables.write_pairs(stream.pairs(), sequence)
            core.stats.bytes_written += tables.bytes_written
            core.stats.fsyncs += tables.fsyncs
            core.stats.user_bytes += tables.user_bytes
            holding(writer.lock, _stand_still, core, background, files, sequence)
        core.delete_obsolete()
    except BaseException as failure:
        if not stream.failed:
            core.poison(failure)
            raise
        if core.failure is None:  # else it is the next open's, or the parent's of a forked process
            core.delete_obsolete()  # what was written of the refused content
        raise


class _Stream:
    """The pairs, checked. `failed` says that what was raised came from them."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._pairs = pairs
        self.failed = False

    def pairs(self) -> Iterator[Pair]:
        try:
            yield from ascending(self._pairs)
        except GeneratorExit:
            raise
        except BaseException:
            self.failed = True
            raise


def _stand_still(core: Core, background: Background, files: list[FileMeta], sequence: int) -> None:
    holding(background.flusher.lock, holding, background.compactor.lock, _replace, core, files, sequence)


def _replace(core: Core, files: list[FileMeta], sequence: int) -> None:
    """Rules 2 and 4. Requires: the three locks."""
    core.check_usable()
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
    for view in core.views:
        if view.pinned is None:
            view.pinned = core.state
    core.sequence = sequence  # before the state: a reader takes the state first
    core.frozen.clear()
    core.state = State(core.new_memtable(), (), core.versions.current)

"""The write half of a store: from a batch to a record of the log and rows of the memtable.

    write ──► group commit ──► room in the memtable? ──► log ──(sync)──► memtable ──► visible
                                     │ no
                                     └──► rotate: the memtable is frozen, and a lane flushes it (background.py)

1. Atomic: a group of batches is one record of the log, and readers see it when the last sequence is raised, after all
   rows are in the memtable.
2. Durable: sync=True returns after the log's fsync, which writers who wait share (engines/group_commit.py).
3. A failure of the log poisons the store: nobody knows what of the record is on disk.
4. Writers are slowed from 20 tables in level 0 on (a millisecond each, once a write), and stopped from 36 on, and while
   four full memtables wait for their flush; each has a counter of its own. The numbers of tables are RocksDB's; LevelDB
   has 8 and 12, and one memtable that waits; here four do, so that a burst goes on while the worker is started. With
   twenty tables in level 0 a read looks at twenty filters, but a burst of writes gets through.

Follows DBImpl::Write and MakeRoomForWrite in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from engines.errors import ReadOnly
from engines.group_commit import GroupCommit, Waiter
from engines.kvstore import Operation, WriteBatch
from engines.lifetime import holding
from engines.lsm.background import Background
from engines.lsm.core import Core

__all__ = ["Writer"]

GROUP_BYTES: Final = 1 << 20  # most that one record of the log has from several writers
SMALL_BATCH_BYTES: Final = 1 << 17  # a small batch waits for 128 KiB of others at most, as in LevelDB
SLOWDOWN_S: Final = 0.001


class Writer:
    """Writes to one store, one group of batches at a time."""

    def __init__(self, core: Core, background: Background) -> None:
        self.core = core
        self.group_commit = GroupCommit(GROUP_BYTES, SMALL_BATCH_BYTES)
        self.background = background
        self.is_slowed = False  # rule 4, as of the last look at level 0
        self.look_bytes = core.options.write_buffer_bytes // 2  # of a memtable, at which `make_room` has to look

    @property
    def lock(self) -> threading.Lock:
        """The writer lock."""
        return self.group_commit.lock

    def put(self, key: bytes, value: bytes, sync: bool) -> None:
        """A batch of one."""
        batch = WriteBatch()
        batch.put(key, value)
        self.write(batch, sync)

    def delete(self, key: bytes, sync: bool) -> None:
        """A batch of one."""
        batch = WriteBatch()
        batch.delete(key)
        self.write(batch, sync)

    def write(self, batch: WriteBatch, sync: bool) -> None:
        """Commits the batch, together with others that wait. O(log memtable) for each operation.

        Raises StoreClosed, StoreFailed, ReadOnly; OSError for the failure that poisons the store; CorruptionError,
        ForeignFormat if a compaction has found damage.
        """
        if batch.operations:
            self.group_commit.submit(batch, sync, self._commit)
        else:
            self.check_writable()

    def check_writable(self) -> None:
        """Raises StoreClosed, StoreFailed, ReadOnly."""
        self.core.check_usable()
        if self.core.log is None:
            raise ReadOnly("the store was opened with read_only=True: open it without to write")

    def _commit(self, group: list[Waiter]) -> None:
        """One record, one fsync, and then visible. Requires: the writer lock."""
        self.make_room()
        operations = group[0].batch.operations
        if len(group) > 1:
            operations = [operation for waiter in group for operation in waiter.batch.operations]
        sync = any(waiter.sync for waiter in group)
        core = self.core
        try:
            self.commit(operations, sync)
        except BaseException as failure:
            core.poison(failure)
            raise
        stats = core.stats
        deletes = sum([value is None for _, value in operations])
        stats.deletes += deletes
        stats.puts += len(operations) - deletes
        stats.user_bytes += sum([waiter.batch.size_bytes for waiter in group])
        self.background.work.write_groups += len(group) > 1

    def commit(self, operations: Sequence[Operation], sync: bool) -> None:
        """Makes one record of the log and rows of the memtable of the operations, and then lets readers see them.

        The first operation has the sequence after `core.sequence`, which is that of the last one when this returns. The
        record comes from `core.parts.encode_batch`. With `sync`, it is on disk ("lsm.wal.append") before any of it is in
        the memtable. No reader may see a part of it: they see what is not above `core.sequence`. Requires: the writer
        lock; a log (make_room has looked). Raises OSError: then the caller poisons the store. O(log memtable) each.
        """
        core, log = self.core, self.core.log
        assert log is not None
        sequence = core.sequence + 1
        log.append(core.parts.encode_batch(sequence, operations), sequence, sync)
        if sync:
            log.sync("lsm.wal.append")
        core.state.memtable.add_all(sequence, operations)
        core.sequence += len(operations)  # now readers see it, all of it at once

    # ---- room -------------------------------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Before each write: refuses it, or makes room for it, which may take a while (rule 4). Requires: the writer lock."""
        self.check_writable()
        background = self.background
        if background.damage is not None:
            background.refuse_writes()
        if self.core.state.memtable.size_bytes >= self.look_bytes:
            self._look()
        elif self.is_slowed:
            background.work.write_slowdowns += 1
            background.wait_for_step(SLOWDOWN_S)
            self.is_slowed = self.must_slow_down()

    def _look(self) -> None:
        """The memtable is full, or the store's first one is half full, and a flush is coming. Requires: the writer lock."""
        if self.core.state.memtable.size_bytes >= self.core.options.write_buffer_bytes:
            self._rotate()
        else:
            self.background.prepare()
        self.look_bytes = self.core.options.write_buffer_bytes

    def _rotate(self) -> None:
        """Freezes the full memtable, when there is room for one more. Requires: the writer lock."""
        core, background = self.core, self.background
        try:
            background.work.write_stops += background.wait_while(self._must_stop)
            core.rotate()
            background.kick()
        except BaseException as failure:
            core.poison(failure)
            raise
        core.check_usable()
        self.is_slowed = self.must_slow_down()

    def _must_stop(self) -> bool:
        """Rule 4: as many memtables are frozen as may be, or level 0 is far too full, and compactions still run."""
        options = self.core.options
        if len(self.core.frozen) >= options.max_frozen:
            return True
        if self.background.damage is not None or self._level0_files() < options.level0_stop_files:
            return False
        return self.background.compactor.has_work()  # nobody waits for what nobody will do

    def must_slow_down(self) -> bool:
        """Rule 4: level 0 is too full. Never without threads, because a writer has just compacted it then."""
        return self.background.has_threads and self._level0_files() >= self.core.options.level0_slowdown_files

    def _level0_files(self) -> int:
        return len(self.core.versions.current.levels[0])

    # ---- for the store ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Freezes the memtable, and returns when all frozen ones are tables. Raises as `write`."""
        holding(self.lock, self._freeze)
        core, background = self.core, self.background
        try:
            background.wait_for_flush()
        except BaseException as failure:
            core.poison_if_final(failure)
            raise
        if background.failure is not None and core.failure is background.failure:
            raise background.failure
        core.check_usable()

    def _freeze(self) -> None:
        self.check_writable()
        if len(self.core.state.memtable):
            self._rotate()

    def close_log(self) -> None:
        """Syncs the log and closes it for good, which the next open replays. Requires: the writer lock."""
        core = self.core
        if core.log is None:
            return
        try:
            if core.failure is None and not core.log.sealed:
                core.log.seal(core.sequence + 1, "lsm.wal.close")
        except BaseException as failure:
            core.poison(failure)
            raise
        finally:
            core.log.close()

    def leave_to_parent(self) -> None:
        """In a forked child: see GroupCommit."""
        self.group_commit.leave_to_parent()

"""The writer: a batch goes to the log, and then readers see it.

    check the values ──► log.batch ──► (sync) ──► keydir.apply ──► merge, if a segment was filled

Readers see a write when it is where its caller wants it: in the page cache, or on the disk. So nobody reads what a power
cut could take back from an acknowledged write.

One thread at a time, by the writer's lock. A failure of the log poisons the store: what reached the disk is known only
to the next opening.
"""

from __future__ import annotations

import contextlib

from engines.bitcask.core import Core
from engines.bitcask.keydir import Changes
from engines.bitcask.log import Operations
from engines.bitcask.policy import Merging
from engines.bitcask.record import refuse_tombstone
from engines.errors import CorruptionError, ReadOnly
from engines.kvstore import WriteBatch, check_value
from engines.lifetime import holding

__all__ = ["Writer"]


class Writer:
    """The write half of a store."""

    def __init__(self, core: Core, merging: Merging, max_value_bytes: int) -> None:
        self.core = core
        self.merging = merging
        self.max_value_bytes = max_value_bytes

    def put(self, key: bytes, value: bytes, sync: bool | None) -> None:
        """A batch of one."""
        batch = WriteBatch()
        batch.put(key, value)
        self.write(batch, sync)

    def delete(self, key: bytes, sync: bool | None) -> None:
        """A batch of one."""
        batch = WriteBatch()
        batch.delete(key)
        self.write(batch, sync)

    def write(self, batch: WriteBatch, sync: bool | None) -> None:
        """As the contract says. O(operations). Raises InvalidValue, ReservedValue, ReadOnly, OSError."""
        puts = 0
        for _, value in batch.operations:
            if value is not None:
                puts += 1
                self.check_value(value)
        sync = self.core.options.sync if sync is None else sync
        self.core.writing(self._write, batch, puts, sync)
        self.merging.run_if_due()

    def _write(self, batch: WriteBatch, puts: int, sync: bool) -> None:
        self.check_writable()
        if not batch.operations:
            return
        core = self.core
        places, operations = core.keydir.places, dict(batch.operations)
        if b"" in places and len(operations) > 1:
            # A user of Riak has a value under the empty key, which is that of marks. The mark of this batch would be the
            # last record of the key, and the value gone: so it is written once more, after the mark. One that is damaged
            # can't be.
            with contextlib.suppress(CorruptionError):
                operations.setdefault(b"", core.read(b"", places[b""]))
        try:
            self._commit(operations, sync)
        except BaseException as failure:
            core.poison(failure)
            raise
        core.stats.puts += puts
        core.stats.deletes += len(batch.operations) - puts
        core.stats.user_bytes += batch.size_bytes

    def _commit(self, operations: Operations, sync: bool) -> None:
        """Appends the operations to the log (`core.log.batch`, which syncs if told to), and then shows them to readers.

        `log.batch` takes the keydir's places and returns the changes; `_apply` makes them, under `core.mutex`:
        `holding(lock, function, argument)` calls a function with a lock held. Readers must not see a write before it is
        where its caller wants it: what they have seen would be gone after a power cut. Raises OSError; then nothing is
        shown. Requires: the writer's lock.
        """
        changes = self.core.log.batch(self.core.keydir.places, operations, sync)
        holding(self.core.mutex, self._apply, changes)

    def _apply(self, changes: Changes) -> None:
        self.core.keydir.apply(changes, self.core.undo_maps())

    def flush(self) -> None:
        """One sync, if anything was written without one; and the files go that no snapshot needs any more."""
        self.core.writing(self._flush)

    def _flush(self) -> None:
        self.check_writable()
        with self.core.poisoning():
            self.core.log.sync()
            self.core.remove_retired()

    def check_writable(self) -> None:
        """Raises ReadOnly, StoreClosed, StoreFailed."""
        self.core.check_usable()
        if self.core.options.read_only:
            raise ReadOnly("the store was opened with read_only=True: open it without to write")

    def check_value(self, value: object) -> None:
        """Raises InvalidValue, or ReservedValue for one that Riak would take for a deletion."""
        check_value(value, self.max_value_bytes)
        assert isinstance(value, bytes), "or check_value had raised"
        refuse_tombstone(value)

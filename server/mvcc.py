"""Every version of every key, on any engine: reads at a revision, the history of changes, and the writes of one entry.

    revision     1          2          3          4 = current
    a            ·          put "x"    ·          deleted
    b            put "1"    ·          put "2"    ·                  range at 3: a=x b=2      range at 4: b=2

    k rows   a → deleted, mod 4        b → "2", mod 3, version 2, create 1
    h rows   2.0 put a    3.0 put b, prev 1.0    4.0 delete a, prev 2.0

Each entry that changes a key has a main revision of its own, and each of its changes a sub revision from 0. A read of the
newest versions needs one row a key; a read at an older revision follows `prev` from there, one row a version. A watch from
the past is a scan of the h rows. server/mvcc_rows.py has the bytes.

Invariants:

1. What the rows are follows from the entries alone: the same entries, the same rows, on any engine, however the entries
   are divided into batches. All of it is in the batch with the applied index.
2. A row of the history is never changed, only deleted, by compaction (server/mvcc_compaction.py).
3. At each revision from `compacted` to `revision`, the content can be read. All changes from `compacted` on are there.
4. Revisions begin with the first request in the log (server/evaluation.py), at 1. Before it the rows are those of earlier
   versions of this program, so that nodes whose directories were written by one begin at the same entry.

Left out: an index in memory, so that a range at a revision long past costs a row for each version since. Follows etcd's
server/mvcc (kvstore.go, kvstore_txn.go, key_index.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat

from sortedcontainers import SortedList

from engines.coding import DecodeError
from engines.kvstore import Pair, Reader, WriteBatch
from server.mvcc_rows import (
    BEFORE,
    DELETED,
    NONE,
    REVISION,
    USER,
    VERSION,
    VERSION_ROW,
    Change,
    Record,
    Revision,
    State,
    change_row,
    deleted_row,
    history_key,
    inline_value,
    newest_row,
    plain_row,
    read_change,
    read_newest,
    read_state,
    state_row,
)

__all__ = ["Change", "Compacted", "FutureRevision", "LeaseMoved", "Record", "Revision", "View", "Writes", "state_of"]

_AFTER_USER = b"l"
_AFTER_HISTORY = b"i"


class Compacted(Exception):
    """What was asked for is older than the compacted revision."""

    def __init__(self, compacted: int) -> None:
        super().__init__(f"revisions before {compacted:,} were compacted")
        self.compacted = compacted


class FutureRevision(Exception):
    """The revision that was asked for has not come yet."""


def state_of(reader: Reader) -> State | None:
    """Where a store's revisions are; None if they have not begun. Raises DecodeError, also for a later version's rows."""
    version = reader.get(VERSION)
    if version not in (None, VERSION_ROW):
        raise DecodeError(
            f"its keys are of version {version!r}, and this program knows {VERSION_ROW!r} and none before it"
        )
    return read_state(reader)


class View:
    """The keys of one moment, as an engine's snapshot has them; or of a store, for the thread that writes it.

    revision: the current main revision. compacted: the oldest that can be read; -1 if nothing was compacted.
    """

    revision: int
    compacted: int
    walked_to: Revision
    owed: int

    def __init__(self, reader: Reader, state: State | None = None) -> None:
        """state: where revisions are, if it is known; else it is read. Raises DecodeError."""
        self._reader = reader
        known = state or state_of(reader)
        self.begun = known is not None  # whether revisions have begun
        self.state = known or State()

    @property
    def state(self) -> State:
        """Where revisions are."""
        return State(self.revision, self.compacted, self.walked_to, self.owed)

    @state.setter
    def state(self, state: State) -> None:
        self.revision, self.compacted, self.walked_to, self.owed = state

    @property
    def walked(self) -> int:
        """Up to which compacted revision the rows that nobody needs are gone."""
        return self.walked_to.main

    def get(self, key: bytes, revision: int = 0) -> Record | None:
        """The newest version of a key, or the newest up to `revision` if that is above 0; None if there is none.

        Raises Compacted, FutureRevision. One row, and one for each later version.
        """
        at = self._checked(revision)
        row = self._get(USER + key)
        return None if row is None else self._up_to(at, read_newest(key, row))

    def range(self, start: bytes, stop: bytes | None, revision: int = 0) -> Iterator[Record]:
        """The keys from `start` on and before `stop`, None for all, as `get` has them, in the order of keys; lazily.

        Raises Compacted, FutureRevision at the call. Of `Writes`, not to be gone on with after a write.
        """
        at = self._checked(revision)
        rows = self._scan(USER + start, _AFTER_USER if stop is None else USER + stop)
        found = (self._up_to(at, read_newest(key[1:], row)) for key, row in rows)
        return (record for record in found if record is not None)

    def count(self, start: bytes, stop: bytes | None, revision: int = 0) -> int:
        """How many keys `range` would give. Raises the same. O(keys); of the newest revision, no version is decoded."""
        if self._checked(revision) < self.revision:
            return sum(1 for _ in self.range(start, stop, revision))
        rows = self._scan(USER + start, _AFTER_USER if stop is None else USER + stop)
        return sum(not row.startswith(DELETED) for _, row in rows)

    def changes(self, start: Revision, limit: int | None = None) -> Iterator[Change]:
        """The changes from the revision `start` on, in their order; at most `limit`. Raises Compacted at the call."""
        if start[0] < self.compacted:
            raise Compacted(self.compacted)
        rows = self._scan(history_key(Revision(*start)), _AFTER_HISTORY)
        return (read_change(key, row) for key, row in islice(rows, limit))

    def rows(self) -> Iterator[Pair]:
        """All rows of the engine, those of other tables among them, in the order of their keys; lazily."""
        return self._reader.scan()

    def prev_of(self, change: Change) -> Record | None:
        """What a key had before the revision of a change; None if it had nothing, the change made the key, or compaction has
        passed it. So of two changes of a key in one revision, the second has the same as the first, as in etcd."""
        if not change.deleted and change.record.create == change.main:
            return None
        while change.prev is not None and change.prev.main == change.main:
            row = self._get(history_key(change.prev))
            if row is None:
                return None
            change = read_change(history_key(change.prev), row)
        if change.prev is None:
            return None
        if change.prev == BEFORE:
            row = self._get(history_key(Revision(change.main, change.sub)))
            return None if row is None else Record(change.record.key, inline_value(row), 1, 1, 1, 0, 0)
        row = self._get(history_key(change.prev))
        record = None if row is None else read_change(history_key(change.prev), row).record
        return record if record is not None and record.version else None

    def _checked(self, revision: int) -> int:
        if revision <= 0:
            return self.revision
        if revision > self.revision:
            raise FutureRevision
        if revision < self.compacted:
            raise Compacted(self.compacted)
        return revision

    def _up_to(self, revision: int, newest: Record) -> Record | None:
        """The version of the key that was current at `revision`, found from its newest one."""
        record = newest
        while record.mod > revision:
            at = history_key(Revision(record.mod, record.sub))
            row = self._get(at)
            if row is None:
                raise DecodeError(f"the change {record.mod}.{record.sub} of key {record.key[:40]!r} has no row")
            before = self._before(at, row)
            if before is None:
                return None
            record = before
        return record if record.version else None

    def _before(self, at: bytes, row: bytes) -> Record | None:
        """The version that the change in this row replaced, deleted ones too; None if there was none, or a deleted one
        that compaction has passed."""
        change = read_change(at, row)
        if change.prev is None:
            return None
        if change.prev == BEFORE:
            return Record(change.record.key, inline_value(row), 1, 1, 1, 0, 0)
        prev_at = history_key(change.prev)
        prev = self._get(prev_at)
        return None if prev is None else read_change(prev_at, prev).record

    def _get(self, key: bytes) -> bytes | None:
        return self._reader.get(key)

    def _scan(self, start: bytes, stop: bytes) -> Iterator[Pair]:
        return self._reader.scan(start, stop)


LeaseMoved = Callable[[bytes, int, int], object]  # a key, its lease before and now; 0: none


class Writes(View):
    """The keys while entries are applied, in their order: `begin` for each, then its puts and deletes. Reads see them.

    All that is written goes into one WriteBatch, which is not in the store before it ends. For the thread that applies.
    """

    def __init__(
        self,
        reader: Reader,
        state: State | None,
        batch: WriteBatch,
        lease_moved: LeaseMoved | None = None,
    ) -> None:
        """reader: what was before the batch. state: of the reader, None if revisions have not begun. lease_moved: is told
        of each key whose lease changes."""
        super().__init__(reader, state or State())
        self.begun = state is not None
        self.changed = False  # whether this entry has changed a key
        self.changes_made: list[Change] = []
        self._state_before = state
        self._batch = batch
        self._written: dict[bytes, bytes | None] = {}  # rows of keys and of history, by the batch up to here
        self._order: SortedList[bytes] | None = None  # the keys of `_written`, from the first scan on
        self._undo: list[tuple[bytes, bytes | None, bool]] = []  # row, what it was, and whether it was in `_written`
        self._sub = 0
        self._lease_moved = lease_moved
        self._mark = (0, 0, self.state, False, 0)

    # ---- entries ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The next entry begins: its first change will have a new main revision."""
        self.changed = False
        self._undo.clear()
        batch = self._batch
        self._mark = (len(batch.operations), batch.size_bytes, self.state, self.begun, len(self.changes_made))

    def undo(self) -> None:
        """Takes back what this entry has written. O(its writes)."""
        operations, size_bytes, self.state, self.begun, changes = self._mark
        del self._batch.operations[operations:]
        del self.changes_made[changes:]
        self._batch.size_bytes = size_bytes
        for row, value, was_written in reversed(self._undo):
            if was_written:
                self._written[row] = value
            else:
                self._written.pop(row, None)
        self._undo.clear()
        self._order = None
        self.changed = False

    def begin_revisions(self) -> None:
        """From here on, changes have revisions. Once in the life of a log."""
        if not self.begun:
            self.begun = True
            self._batch.put(VERSION, VERSION_ROW)

    def end(self) -> None:
        """All entries of the batch are there: what else has to be in it."""
        if self.begun and self.state != self._state_before:
            self._batch.put(REVISION, state_row(self.state))

    def made(self) -> Sequence[Change]:
        """All changes of the batch, in their order."""
        return self.changes_made

    def compact(self, revision: int) -> None:
        """Revisions before this one can't be read from here on; the rows go later (server/mvcc_compaction.py).

        Raises Compacted if that is so already, FutureRevision.
        """
        if revision <= self.compacted:
            raise Compacted(self.compacted)
        if revision > self.revision:
            raise FutureRevision
        self.compacted = revision

    # ---- changes ----------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Record:
        """Sets a key; the version that it has now. Requires: revisions have begun."""
        before = self._newest(key)
        main, sub = self._next()
        if before is None or not before.version:
            record = Record(key, value, main, main, 1, lease, sub)
        else:
            record = Record(key, value, before.create, main, before.version + 1, lease, sub)
        self.write(USER + key, newest_row(record))
        self._add(record, before)
        return record

    def delete(self, key: bytes) -> Record | None:
        """Removes a key; the version that was deleted, or None, and then nothing changes. Requires: revisions have begun."""
        before = self._newest(key)
        if before is None or not before.version:
            return None
        revision = self._next()
        self.write(USER + key, deleted_row(revision))
        self._add(Record(key, b"", 0, revision.main, 0, 0, revision.sub), before)
        return before

    def carry_out(self, operations: Iterable[tuple[bytes, bytes | None]]) -> None:
        """An entry of puts, and deletes for None: simple operations, which may come before revisions have begun."""
        self.begin()
        if self.begun:
            for key, value in operations:
                if value is None:
                    self.delete(key)
                else:
                    self.put(key, value)
            return
        batch = self._batch
        for key, value in operations:
            row = None if value is None else plain_row(value)
            batch.operations.append((USER + key, row))
            batch.size_bytes += len(key) + len(value or b"")
            self._written[USER + key] = row

    def _newest(self, key: bytes) -> Record | None:
        row = self._get(USER + key)
        return None if row is None else read_newest(key, row)

    def _next(self) -> Revision:
        """The revision of the next change."""
        self.owed += 1
        if self.changed:
            self._sub += 1
        else:
            self.changed = True
            self.revision += 1
            self._sub = 0
        return Revision(self.revision, self._sub)

    def _add(self, record: Record, before: Record | None) -> None:
        """Adds a change to the history: `record` has replaced `before`."""
        revision = Revision(record.mod, record.sub)
        if before is None:
            prev, inline = NONE, b""
        elif before.mod == 1:
            prev, inline = BEFORE, before.value
        else:
            prev, inline = Revision(before.mod, before.sub), b""
        self.write(history_key(revision), change_row(record, prev, inline))
        self.changes_made.append(Change(*revision, not record.version, record, prev if prev.main else None))
        lease = 0 if before is None else before.lease
        if lease != record.lease and self._lease_moved is not None:
            self._lease_moved(record.key, lease, record.lease)

    # ---- rows -------------------------------------------------------------------------------------------------------

    def write(self, row: bytes, value: bytes | None) -> None:
        """Sets a row of the engine, or deletes it."""
        written, batch = self._written, self._batch
        self._undo.append((row, written.get(row), row in written))
        if self._order is not None and row not in written:
            self._order.add(row)
        written[row] = value
        batch.operations.append((row, value))
        batch.size_bytes += len(row) + (len(value) if value is not None else 0)

    def history_rows(self, start: Revision, stop: int, limit: int) -> list[Pair]:
        """At most `limit` rows of the changes from `start` on, of main revisions below `stop`. Requires: no row from `start`
        on was deleted in this batch. So if `stop` isn't after the batch's first change, what is stored is all there is."""
        before = self._state_before
        scan = self._reader.scan if before is not None and stop <= before.revision + 1 else self._scan
        return list(islice(scan(history_key(start), history_key(Revision(stop, 0))), limit))

    def delete_rows(self, rows: Sequence[bytes]) -> None:
        """Deletes these rows of the engine, in their order. `undo` doesn't bring them back: for compaction, which comes
        after all else in an entry."""
        self._written.update(dict.fromkeys(rows))
        self._order = None
        self._batch.operations.extend(zip(rows, repeat(None)))
        self._batch.size_bytes += sum(map(len, rows))

    def row(self, key: bytes) -> bytes | None:
        """A row of the engine, as it is with what was written."""
        return self._get(key)

    def _get(self, key: bytes) -> bytes | None:
        return self._written[key] if key in self._written else self._reader.get(key)

    def _scan(self, start: bytes, stop: bytes) -> Iterator[Pair]:
        stored = self._reader.scan(start, stop)
        if not self._written:
            return stored
        if self._order is None:
            self._order = SortedList(self._written)
        ours = list(self._order.irange(start, stop, (True, False)))
        return self._merged(ours, stored) if ours else stored

    def _merged(self, ours: list[bytes], stored: Iterator[Pair]) -> Iterator[Pair]:
        """The stored rows, and in their order those that were written: these count where both are."""
        pending = iter(ours)
        mine = next(pending, None)
        for key, value in stored:
            while mine is not None and mine < key:
                if (written := self._written[mine]) is not None:
                    yield mine, written
                mine = next(pending, None)
            if mine == key:
                if (written := self._written[key]) is not None:
                    yield key, written
                mine = next(pending, None)
            else:
                yield key, value
        while mine is not None:
            if (written := self._written[mine]) is not None:
                yield mine, written
            mine = next(pending, None)

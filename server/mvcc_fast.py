"""The fast form of a simple put: one function, instead of a call for each of its steps.

A put of a key that is there, without a lease, is what a load of puts is made of: its row is read, its two new rows are
packed, and both go into the batch. Everything else is done as server/mvcc.py has it: a new key, one that was deleted or is
from before revisions, a key with a lease, a deletion.

Measured (tests/bench/apply_cost.py, batches of 16): on the LSM tree revisions add 7 µs to a put in the plain form, and 4 in
this one; 2 of these are the engine's for the second row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

from engines.env import plain_everywhere
from engines.kvstore import Operation, Reader, WriteBatch
from server.mvcc import LeaseMoved, Writes
from server.mvcc_rows import CHANGE, HISTORY, HISTORY_KEY, NEWEST, PUT, USER, Change, State, read_change

__all__ = ["FastWrites", "new_writes"]

_KEYS_BYTES = len(USER) + HISTORY_KEY.size

_unpack, _pack, _pack_change, _pack_key = NEWEST.unpack_from, NEWEST.pack, CHANGE.pack, HISTORY_KEY.pack


class FastWrites(Writes):
    """Writes whose simple puts take less. Same rows, same changes."""

    def __init__(
        self, reader: Reader, state: State | None, batch: WriteBatch, lease_moved: LeaseMoved | None = None
    ) -> None:
        super().__init__(reader, state, batch, lease_moved)
        self._stored = reader.get
        self._operations = batch.operations

    def carry_out(self, operations: Iterable[tuple[bytes, bytes | None]]) -> None:
        """As Writes has it."""
        if not self.begun:
            super().carry_out(operations)
            return
        self.changed = False
        for key, value in operations:
            if value is None:
                self.delete(key)
            elif not self.replace(key, value):
                self.put(key, value)

    def replace(self, key: bytes, value: bytes) -> bool:
        """Puts a key that is there, without a lease, as `put` does; False if it isn't, and then nothing was done.

        Requires: revisions have begun. An entry begins with `changed` False. O(bytes), a read of the engine.
        """
        at = USER + key
        written = self._written
        row = written[at] if at in written else self._stored(at)
        if row is None or self._order is not None or not row.startswith(PUT):
            return False
        _, create, before_main, before_sub, version, lease = _unpack(row)
        if lease:
            return False
        if self.changed:
            self._sub += 1
        else:
            self.changed = True
            self.revision += 1
            self._sub = 0
        self.owed += 1
        main, sub = self.revision, self._sub
        version += 1
        written[at] = row = _pack(PUT, create, main, sub, version, 0) + value
        change_at = _pack_key(HISTORY, main, sub)
        head = _pack_change(1, len(key), 0, create, version, 0, before_main, before_sub)
        written[change_at] = change = b"".join((head, key, value))
        self._operations += ((at, row), (change_at, change))
        self._batch.size_bytes += len(row) + len(change) + len(key) + _KEYS_BYTES
        return True

    def made(self) -> Sequence[Change]:
        """As Writes has it, but read from the batch when somebody looks: if nobody watches, nobody does."""
        return _Later(self._operations)


class _Later(Sequence[Change]):
    """The changes among a batch's operations."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations

    @cached_property
    def _all(self) -> list[Change]:
        return [read_change(key, row) for key, row in self._operations if row is not None and key.startswith(HISTORY)]

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, at: int) -> Change: ...
    @overload
    def __getitem__(self, at: slice) -> list[Change]: ...
    def __getitem__(self, at: int | slice) -> Change | list[Change]:
        return self._all[at]

    def __iter__(self) -> Iterator[Change]:
        return iter(self._all)


def new_writes(reader: Reader, state: State | None, batch: WriteBatch, lease_moved: LeaseMoved | None) -> Writes:
    """Writes in the form that is to be used."""
    kind = Writes if plain_everywhere() else FastWrites
    return kind(reader, state, batch, lease_moved)

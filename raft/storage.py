"""What the library reads back from disk: the Storage protocol, and an implementation in memory.

The driver writes what a `Ready` tells it to; the library only ever reads, through `Storage`, and only what was written
before. `MemoryStorage` is what most drivers use next to a write-ahead log: after a restart the log is replayed into it.

    MemoryStorage after compact(4)                    snapshot (index ≥ 4)

        _entries   [ 4/2 | 5/2 | 6/3 | 7/3 ]          index/term
                     │     └ first_index       └ last_index
                     └ a dummy: it keeps the index and term of the last entry cut away,
                       so that term(4) can still be answered (MsgApp for entry 5 needs it)

Invariants
 1. first_index == dummy.index + 1, and last_index == dummy.index + number of real entries.
 2. The entries are contiguous: entry i lies at _entries[i - dummy.index].
 3. The snapshot, if there is one, is at or after the dummy's index: what was cut away is in the snapshot.

A new cluster needs no log entries to agree on its members: every node starts with the same
`MemoryStorage(conf_state=ConfState(voters=(1, 2, 3)))` at index 0. A node that joins later starts with that same first
configuration, too: it isn't in it, and learns that it was added from the log or from a snapshot.

Not thread-safe: the thread that owns the node owns the storage.

Follows etcd-io/raft: storage.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raft.errors import (
    CompactedError,
    RaftPanic,
    SnapshotOutOfDateError,
    SnapshotTemporarilyUnavailableError,
    UnavailableError,
)
from raft.raftpb import ConfState, Entry, HardState, Snapshot, SnapshotMetadata
from raft.util import take_within

__all__ = [
    "CompactedError",
    "MemoryStorage",
    "SnapshotOutOfDateError",
    "SnapshotTemporarilyUnavailableError",
    "Storage",
    "UnavailableError",
]


class Storage(Protocol):
    """The stable part of the log, as the library reads it. Any other exception ends the node."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state and the configuration that were saved last; read once, at the start."""
        ...

    def entries(self, lo: int, hi: int, max_size_bytes: int) -> list[Entry]:
        """Entries lo ≤ index < hi, cut at max_size_bytes, but at least one. The caller doesn't change them.

        Raises `CompactedError` if lo is cut away already, `UnavailableError` if there are no entries at all.
        """
        ...

    def term(self, index: int) -> int:
        """The term of an entry in [first_index() - 1, last_index()]; else `CompactedError` or `UnavailableError`."""
        ...

    def first_index(self) -> int:
        """The first index that `entries` can give (it may be after the last, if all is cut away)."""
        ...

    def last_index(self) -> int:
        """The index of the last entry, or of the snapshot if there is none after it."""
        ...

    def snapshot(self) -> Snapshot:
        """The newest snapshot, for a follower that needs what is cut away.

        Raises `SnapshotTemporarilyUnavailableError` while it is being made; the leader asks again later.
        """
        ...


class MemoryStorage:
    """A `Storage` in memory. `conf_state` is the configuration of a cluster that starts empty."""

    __slots__ = ("_entries", "_hard_state", "_snapshot")

    def __init__(self, conf_state: ConfState | None = None) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot(SnapshotMetadata(0, 0, conf_state or ConfState()))
        self._entries: list[Entry] = [Entry(0, 0)]

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.metadata.conf_state

    def first_index(self) -> int:
        return self._entries[0].index + 1

    def last_index(self) -> int:
        return self._entries[0].index + len(self._entries) - 1

    def entries(self, lo: int, hi: int, max_size_bytes: int) -> list[Entry]:
        """O(entries returned)."""
        offset = self._entries[0].index
        if lo <= offset:
            raise CompactedError(f"entry {lo} is cut away; the first is {offset + 1}")
        if hi > self.last_index() + 1:
            raise RaftPanic(f"entries up to {hi - 1} were asked for, but the last is {self.last_index()}")
        if len(self._entries) == 1:
            raise UnavailableError(f"entry {lo} was asked for, but there are none")
        if lo >= hi:
            return []
        start = lo - offset
        return take_within(self._entries, start, hi - offset, max_size_bytes)[0]

    def term(self, index: int) -> int:
        at = index - self._entries[0].index
        if at < 0:
            raise CompactedError(f"entry {index} is cut away; the first is {self.first_index()}")
        if at >= len(self._entries):
            raise UnavailableError(f"entry {index} was asked for, but the last is {self.last_index()}")
        return self._entries[at].term

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def set_hard_state(self, hard_state: HardState) -> None:
        """Remembers the hard state of a Ready."""
        self._hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds the entries of a Ready. What is there from the first one's index on is replaced.

        Entries that are cut away already are passed over. Raises `RaftPanic` if they aren't contiguous, or would leave a
        hole. O(entries, and those replaced).
        """
        if not entries:
            return
        offset = self._entries[0].index
        skip = offset + 1 - entries[0].index
        if skip > 0:
            entries = entries[skip:]
            if not entries:
                return
        if entries[-1].index != entries[0].index + len(entries) - 1:
            raise RaftPanic(f"{len(entries)} entries from {entries[0].index} to {entries[-1].index} are not contiguous")
        at = entries[0].index - offset
        if at > len(self._entries):
            raise RaftPanic(f"entry {entries[0].index} would leave a hole; the last is {self.last_index()}")
        if at < len(self._entries):
            del self._entries[at:]
        self._entries.extend(entries)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces everything by the snapshot of a Ready. Raises `SnapshotOutOfDateError` if it isn't newer. O(1)."""
        if self._snapshot.metadata.index >= snapshot.metadata.index:
            raise SnapshotOutOfDateError(
                f"the snapshot is at {snapshot.metadata.index}, but there is one at {self._snapshot.metadata.index}"
            )
        self._snapshot = snapshot
        self._entries = [Entry(snapshot.metadata.term, snapshot.metadata.index)]

    def create_snapshot(self, index: int, conf_state: ConfState | None, data: bytes) -> Snapshot:
        """Makes the snapshot of the state after entry `index`; conf_state None leaves the configuration as it was.

        The log isn't cut: `compact` does that, some entries later, so that slow followers needn't the snapshot.
        Requires: `index` is applied, and the last entry at most. Raises `SnapshotOutOfDateError`. O(1).
        """
        if index <= self._snapshot.metadata.index:
            raise SnapshotOutOfDateError(
                f"a snapshot at {index} was asked for, but there is one at {self._snapshot.metadata.index}"
            )
        if index > self.last_index():
            raise RaftPanic(f"a snapshot at {index} was asked for, but the last entry is {self.last_index()}")
        metadata = SnapshotMetadata(index, self.term(index), conf_state or self._snapshot.metadata.conf_state)
        self._snapshot = Snapshot(metadata, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Cuts away all entries up to and with `index`. Requires: index ≤ applied, and a snapshot at or after it.

        Raises `CompactedError` if that was done before. O(entries kept).
        """
        offset = self._entries[0].index
        if index <= offset:
            raise CompactedError(f"the log is cut at {offset} already, so it can't be cut at {index}")
        if index > self.last_index():
            raise RaftPanic(f"the log can't be cut at {index}, because the last entry is {self.last_index()}")
        at = index - offset
        self._entries[: at + 1] = [Entry(self._entries[at].term, index)]

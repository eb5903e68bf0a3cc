"""The end of the log that is not known to be on disk yet, and a snapshot that was received but not yet installed.

         storage (stable)          │   unstable                          │
      … ─────────────────┬─────────┼──────────────────┬──────────────────┤
                         │         offset             │                  end
                         offset-1                     offset_in_progress
                                   ├── handed to the driver, being ──┤── not handed out ──┤
                                       written

Invariants
 1. entries[i] has index offset + i.
 2. offset ≤ offset_in_progress ≤ offset + len(entries): a Ready hands out what lies after offset_in_progress.
 3. offset follows what storage has or is about to have: without entries here, offset - 1 is the last index of the log,
    that of storage or of the snapshot that waits.
 4. offset may lie at or before what storage holds: the entries of storage from offset on are about to be overwritten,
    and this part of the log hides them.

Follows etcd-io/raft: log_unstable.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft.errors import RaftPanic
from raft.raftpb import Entry, Snapshot
from raft.util import Logger, take_within

__all__ = ["Unstable"]


class Unstable:
    """Entries and snapshot that wait for the driver. Methods are O(1) unless they say otherwise."""

    # term_before: the term of the entry offset - 1, which is asked for with every message; 0 if it isn't known here.
    __slots__ = ("entries", "logger", "offset", "offset_in_progress", "snapshot", "snapshot_in_progress", "term_before")

    def __init__(self, offset: int, logger: Logger | None = None) -> None:
        self.logger = logger
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False
        self.entries: list[Entry] = []
        self.offset = offset
        self.offset_in_progress = offset
        self.term_before = 0

    def first_index(self) -> int | None:
        """The first index of the whole log, if a snapshot here decides it."""
        return self.snapshot.metadata.index + 1 if self.snapshot is not None else None

    def last_index(self) -> int:
        """The last index of the whole log (invariant 3)."""
        return self.offset + len(self.entries) - 1

    def term(self, index: int) -> int | None:
        """The term of an entry, if this part knows it."""
        at = index - self.offset
        if at < 0:
            if self.snapshot is not None and self.snapshot.metadata.index == index:
                return self.snapshot.metadata.term
            return None
        return self.entries[at].term if at < len(self.entries) else None

    def next_entries(self) -> list[Entry]:
        """The entries not handed to the driver yet; a copy, because this list changes. O(entries returned)."""
        return self.entries[self.offset_in_progress - self.offset :]

    def has_next_entries(self) -> bool:
        return self.offset_in_progress - self.offset < len(self.entries)

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, if it isn't handed to the driver yet."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept_in_progress(self) -> None:
        """Everything here is handed to the driver and being written."""
        self.offset_in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, index: int, term: int) -> None:
        """The entry (index, term) and all before are on disk, and leave this part. O(entries that stay).

        If the entry here has another term, it was overwritten while the old one was being written: what is on disk is
        out of date, and nothing is stable (the check that keeps an acknowledgement from covering an entry that was
        replaced in the meantime).
        """
        if index < self.offset or self.term(index) != term:
            if self.logger is not None:
                self._explain_unstable(index, term)
            return
        del self.entries[: index + 1 - self.offset]
        self.offset = index + 1
        self.term_before = term
        self.offset_in_progress = max(self.offset_in_progress, self.offset)

    def _explain_unstable(self, index: int, term: int) -> None:
        assert self.logger is not None
        here = self.term(index)
        if here is None:
            self.logger.info("entry at index %d missing from unstable log; ignoring", index)
        elif index < self.offset:
            self.logger.info("entry at index %d matched unstable snapshot; ignoring", index)
        else:
            self.logger.info(
                "entry at (index,term)=(%d,%d) mismatched with entry at (%d,%d) in unstable log; ignoring",
                *(index, term, index, here),
            )

    def stable_snapshot_to(self, index: int) -> None:
        """The snapshot at `index` is installed; a newer one stays."""
        if self.snapshot is not None and self.snapshot.metadata.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Forgets all entries: the log begins after this snapshot."""
        self.offset = snapshot.metadata.index + 1
        self.term_before = snapshot.metadata.term
        self.offset_in_progress = self.offset
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Appends, after dropping whatever is here at or after the first entry's index. O(entries).

        Requires: not empty, contiguous, and no hole (RaftLog.append, which checks it against the committed entries).
        """
        first = entries[0].index
        end = self.offset + len(self.entries)
        if first == end:
            self.entries.extend(entries)
        elif first <= self.offset:
            # All of this part, and maybe some of storage, is replaced.
            if self.logger is not None:
                self.logger.info("replace the unstable entries from index %d", first)
            self.entries = list(entries)
            self.offset = first
            self.term_before = 0
            self.offset_in_progress = first
        else:
            self._check_bounds(first, first)
            if self.logger is not None:
                self.logger.info("truncate the unstable entries before index %d", first)
            self.entries[first - self.offset :] = entries
            # What was being written after `first` is no longer what the log says: it is handed out again.
            self.offset_in_progress = min(self.offset_in_progress, first)

    def slice(self, lo: int, hi: int, max_size_bytes: int) -> list[Entry]:
        """Entries lo ≤ index < hi, all of them here, cut at max_size_bytes, but at least one. O(entries returned)."""
        return self.slice_and_size(lo, hi, max_size_bytes)[0]

    def slice_and_size(self, lo: int, hi: int, max_size_bytes: int) -> tuple[list[Entry], int]:
        """The same, and the bytes of their data."""
        self._check_bounds(lo, hi)
        return take_within(self.entries, lo - self.offset, hi - self.offset, max_size_bytes)

    def _check_bounds(self, lo: int, hi: int) -> None:
        end = self.offset + len(self.entries)
        if not self.offset <= lo <= hi <= end:
            raise RaftPanic(f"entries [{lo}, {hi}) were asked for, but the unstable ones are [{self.offset}, {end})")

"""The log: storage and the unstable end as one, with the marks of how far it is committed and applied.

      first                applied   applying   committed              last
      ├──────────────────────┼──────────┼───────────┼────────────────────┤
      │◄───────────── storage ─────────────►│◄──────── unstable ────────►│
                                            offset

Invariants
 1. applied ≤ applying ≤ committed ≤ last, and none of them ever decreases.
 2. An entry at or before `committed` never changes (State Machine Safety); an attempt is a `RaftPanic`.
 3. Terms never decrease along the log (so the search of a term can halve).
 4. Entries are handed out for application in order, each once, and only when they are committed, and no snapshot is
    waiting to be installed in front of them. With asynchronous storage writes they must be stable, too.

Why stable (4): an entry can be committed without this node, by a quorum of others. If it were applied here before it is
on this disk, a crash could leave a state machine that is ahead of its own log. A driver that calls `advance` writes a
Ready before it applies what is in it, so it may find the same entry in both; with asynchronous writes nothing orders
the two threads but this rule.

Follows etcd-io/raft: log.go; paper sections 5.3 and 5.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raft.errors import CompactedError, LogLostError, RaftPanic, UnavailableError
from raft.log_unstable import Unstable
from raft.raftpb import Entry, Snapshot
from raft.storage import Storage
from raft.util import NO_LIMIT, Logger, payloads_size, take_within

__all__ = ["RaftLog"]


class RaftLog:
    """A log over `storage`. max_applying_size_bytes bounds what is handed out and not yet reported as applied."""

    __slots__ = (
        "applied",
        "applying",
        "applying_paused",
        "applying_size_bytes",
        "committed",
        "logger",
        "max_applying_size_bytes",
        "storage",
        "unstable",
    )

    def __init__(self, storage: Storage, max_applying_size_bytes: int = NO_LIMIT, logger: Logger | None = None) -> None:
        first, last = storage.first_index(), storage.last_index()
        self.storage = storage
        self.logger = logger
        self.unstable = Unstable(last + 1, logger)
        self.committed = self.applying = self.applied = first - 1
        self.max_applying_size_bytes = max_applying_size_bytes
        self.applying_size_bytes = 0
        self.applying_paused = False

    # What the log has.

    def first_index(self) -> int:
        index = self.unstable.first_index()
        return index if index is not None else self.storage.first_index()

    def last_index(self) -> int:
        unstable = self.unstable
        return unstable.offset + len(unstable.entries) - 1

    def term(self, index: int) -> int:
        """The term of an entry; that of the last one cut away is known, too.

        Raises `CompactedError` before that, `UnavailableError` after the end.
        """
        unstable = self.unstable
        at = index - unstable.offset
        if at >= 0:
            if at < len(unstable.entries):
                return unstable.entries[at].term
            raise UnavailableError(f"entry {index} was asked for, but the last is {self.last_index()}")
        if at == -1 and unstable.term_before:
            return unstable.term_before
        snapshot = unstable.snapshot
        if snapshot is not None and index <= snapshot.metadata.index:
            if index == snapshot.metadata.index:
                return snapshot.metadata.term
            raise CompactedError(f"entry {index} is cut away; the first is {self.first_index()}")
        return self.storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """The term of an entry, 0 if it isn't there. No entry has term 0."""
        try:
            return self.term(index)
        except (CompactedError, UnavailableError):
            return 0

    def last_term(self) -> int:
        return self.term(self.last_index())

    def match_term(self, index: int, term: int) -> bool:
        """Whether this log has entry `index`, and with this term; then all before it are the leader's, too (Log Matching).

        False, and no error, for an entry that is cut away (`CompactedError` from `term`) or after the end
        (`UnavailableError`). Index 0 with term 0 is before the first entry of any log: every log has it. O(1).
        """
        try:
            return self.term(index) == term
        except (CompactedError, UnavailableError):
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends with entry (index, term) is at least as up to date as this one (paper section 5.4.1).

        The later term of the two last entries decides; with the same term, the longer log does; equal is up to date.
        An empty log ends with (0, 0). O(1).
        """
        last_index = self.last_index()
        last_term = self.term(last_index)
        return term > last_term or (term == last_term and index >= last_index)

    def entries(self, lo: int, max_size_bytes: int) -> list[Entry]:
        """The entries from lo on, cut at max_size_bytes. Raises `CompactedError`. O(entries returned)."""
        return self.entries_and_size(lo, max_size_bytes)[0]

    def entries_and_size(self, lo: int, max_size_bytes: int) -> tuple[list[Entry], int]:
        """The same, and the bytes of their data."""
        unstable = self.unstable
        start, count = lo - unstable.offset, len(unstable.entries)
        if start >= count:
            return [], 0
        if start >= 0:
            return take_within(unstable.entries, start, count, max_size_bytes)
        return self._slice(lo, unstable.offset + count, max_size_bytes)

    def slice(self, lo: int, hi: int, max_size_bytes: int) -> list[Entry]:
        """Entries lo ≤ index < hi, cut at max_size_bytes, but at least one. Raises `CompactedError`."""
        return self._slice(lo, hi, max_size_bytes)[0]

    def _slice(self, lo: int, hi: int, max_size_bytes: int) -> tuple[list[Entry], int]:
        unstable = self.unstable
        offset = unstable.offset
        if lo < offset and lo < self.first_index():
            raise CompactedError(f"entry {lo} is cut away; the first is {self.first_index()}")
        if not lo <= hi <= self.last_index() + 1:
            raise RaftPanic(f"entries [{lo}, {hi}) were asked for, but the last is {self.last_index()}")
        if lo == hi:
            return [], 0
        if lo >= offset:
            return unstable.slice_and_size(lo, hi, max_size_bytes)
        stop = min(hi, offset)
        stable = self.storage.entries(lo, stop, max_size_bytes)
        size = payloads_size(stable)
        if hi <= offset or len(stable) < stop - lo:
            return stable, size
        room = max_size_bytes - size - 17 * len(stable) if max_size_bytes < NO_LIMIT else NO_LIMIT
        if unstable.entries[0].size() > room:
            return stable, size
        rest, rest_size = unstable.slice_and_size(offset, hi, room)
        return stable + rest, size + rest_size

    def scan(self, lo: int, hi: int, page_size_bytes: int) -> Iterator[list[Entry]]:
        """Entries lo ≤ index < hi in pages, so that a long stretch is never in memory at once."""
        while lo < hi:
            page = self.slice(lo, hi, page_size_bytes)
            yield page
            lo += len(page)

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises `SnapshotTemporarilyUnavailableError`."""
        return self.unstable.snapshot if self.unstable.snapshot is not None else self.storage.snapshot()

    # What is added to it.

    def append(self, entries: Sequence[Entry]) -> int:
        """Appends (replacing what was there from the first one's index on); returns the last index. O(entries)."""
        if not entries:
            return self.last_index()
        first, last = entries[0].index, self.last_index()
        if first <= self.committed:
            raise RaftPanic(f"entry {first} can't be replaced: the log is committed up to {self.committed}")
        if first > last + 1:
            raise RaftPanic(f"entry {first} would leave a hole; the last is {last}")
        self.unstable.truncate_and_append(entries)
        return entries[-1].index

    def maybe_append(self, prev_index: int, prev_term: int, entries: Sequence[Entry], leader_commit: int) -> int | None:
        """AppendEntries at a follower (paper figure 2, receiver's rules 2 to 5). O(entries).

        Requires: `entries` follow prev_index, one index after the other (`follower._handle_append_entries` makes sure).
        None, and nothing changes, if this log doesn't have the entry (prev_index, prev_term). Else takes what is new
        (`find_conflict` says from where on; `append_from` replaces what conflicts), and returns the index of the last
        entry that is now known to be the leader's: the last of `entries`, or prev_index without any.

        Only an entry that conflicts truncates the log: a message that came late or twice finds its entries here already,
        and what follows them, maybe acknowledged since, stays (akka-raft#66, raftos#26).

        The commit index rises (`commit_to`) to leader_commit, but not beyond that last entry: after it this log may hold
        entries that the leader doesn't have.
        """
        if not self.match_term(prev_index, prev_term):
            return None
        conflict = self.find_conflict(entries)
        if conflict:
            self.append_from(conflict, entries)
        last_new = prev_index + len(entries)
        self.commit_to(min(leader_commit, last_new))
        return last_new

    def append_from(self, index: int, entries: Sequence[Entry]) -> None:
        """Appends those of the leader's `entries` that are at or after `index`, the first that this log doesn't have.

        Raises `LogLostError` if that would replace one that is committed: no leader can lack it.
        """
        first = entries[0].index
        if self.logger is not None and index <= self.last_index():
            self.logger.info(
                "found conflict at index %d [existing term: %d, conflicting term: %d]",
                *(index, self.term_or_zero(index), entries[index - first].term),
            )
        if index <= self.committed:
            raise LogLostError(f"entry {index} conflicts with one that is committed (up to {self.committed})")
        self.append(entries[index - first :])

    def find_conflict(self, entries: Sequence[Entry]) -> int:
        """The index of the first entry that this log doesn't have, or has with another term; 0 if it has them all.

        `entries` are in order of index. O(entries that the log may have already): entries after its end, the usual case,
        aren't looked up.
        """
        last = self.last_index()
        for entry in entries:
            if entry.index > last or not self.match_term(entry.index, entry.term):
                return entry.index
        return 0

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The largest i ≤ index whose term is ≤ `term`, and its term; the term is 0 if it isn't known.

        Both sides use it to back up by a whole term for each message instead of by one entry. The follower, refusing an
        entry of `term`: nothing of mine after i can be in the leader's log before that entry. The leader, told that
        the follower has (index, term): nothing of mine after i can be in the follower's log up to `index`.

        An entry that is cut away (but for the last of them) or after the end has no known term, and ends the search: the
        answer is then its index, and 0. O(log n) lookups, because terms never decrease along the log; one step for each
        entry is as right.
        """
        if index > self.last_index():
            return index, 0
        lo = self.first_index() - 1
        if index < lo:
            return index, 0
        if self.term(lo) > term:
            return lo - 1, 0
        hi = index
        while lo < hi:
            middle = (lo + hi + 1) // 2
            if self.term(middle) <= term:
                lo = middle
            else:
                hi = middle - 1
        return lo, self.term(lo)

    def require_same(self, prev_index: int, prev_term: int, entries: Sequence[Entry], leader: int) -> None:
        """What the leader sends of the entries that are committed here must be the same (Leader Completeness).

        Requires: prev_index ≤ committed. Raises `LogLostError` if it isn't; entries that are cut away can't be compared.
        O(entries that are committed).
        """
        known = entries[: self.committed - prev_index]
        for index, term in ((prev_index, prev_term), *((entry.index, entry.term) for entry in known)):
            if self.term_or_zero(index) not in (0, term):
                raise LogLostError(
                    f"node {leader}, the leader, has an entry {index} of term {term}, but here entry {index} of term "
                    f"{self.term(index)} is committed: one of the two has lost a part of its log, or was given another"
                )

    def restore(self, snapshot: Snapshot) -> None:
        """The log becomes the snapshot. Requires: it is ahead of the commit index."""
        if self.logger is not None:
            self.logger.info(
                "log [%s] starts to restore snapshot [index: %d, term: %d]",
                *(self, snapshot.metadata.index, snapshot.metadata.term),
            )
        self.committed = snapshot.metadata.index
        self.unstable.restore(snapshot)

    def stable_to(self, index: int, term: int) -> None:
        """The entry (index, term) and all before are on this node's disk."""
        self.unstable.stable_to(index, term)

    # How far it is committed.

    def commit_to(self, index: int) -> None:
        """Raises the commit index; a smaller one changes nothing: it never decreases (PySyncObj#166)."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise LogLostError(
                f"entry {index} was acknowledged by this node and is committed, but its log ends at {self.last_index()}: "
                "the log was cut, lost, or replaced by an older one"
            )
        self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """The leader's rule (paper section 5.4.2): a quorum has `index`; if it is of the leader's own `term`, and the log
        isn't committed as far yet, it is now (`commit_to`). True if the commit index has risen. O(1).

        An entry of an earlier term is never committed by counting, because a leader that doesn't have it could still
        be elected (figure 8; PySyncObj#110, #169); it is committed with the first entry of the own term after it.
        """
        if index > self.committed and self.match_term(index, term):
            self.commit_to(index)
            return True
        return False

    # What is handed to the driver.

    def max_appliable_index(self, allow_unstable: bool) -> int:
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def next_committed_entries(self, allow_unstable: bool = False) -> list[Entry]:
        """The entries to apply next (invariant 4), cut at the room left by those being applied. O(entries)."""
        return self.next_committed_and_size(allow_unstable)[0]

    def next_committed_and_size(self, allow_unstable: bool = False) -> tuple[list[Entry], int]:
        """The same, and the bytes of their data."""
        if not self.has_next_committed_entries(allow_unstable):
            return [], 0
        room = self.max_applying_size_bytes - self.applying_size_bytes
        return self._slice(self.applying + 1, self.max_appliable_index(allow_unstable) + 1, room)

    def has_next_committed_entries(self, allow_unstable: bool = False) -> bool:
        if self.applying_paused or self.unstable.snapshot is not None:
            return False
        return self.applying < self.max_appliable_index(allow_unstable)

    def accept_applying(self, index: int, size_bytes: int, allow_unstable: bool = False) -> None:
        """The driver has got the entries up to `index`; size_bytes of them are now being applied."""
        if not self.applying <= index <= self.committed:
            raise RaftPanic(f"entry {index} can't be applied: {self.applying} is, and {self.committed} is committed")
        self.applying = index
        self.applying_size_bytes += size_bytes
        # Paused if the room is used up, or if the cut left something that the next Ready could take: a slice that was
        # cut for its size may have left room that the next entry doesn't fit in.
        self.applying_paused = (
            self.applying_size_bytes >= self.max_applying_size_bytes or index < self.max_appliable_index(allow_unstable)
        )

    def applied_to(self, index: int, size_bytes: int) -> None:
        """The driver has applied everything up to `index`."""
        if not self.applied <= index <= self.committed:
            raise RaftPanic(f"entry {index} can't be applied: {self.applied} is, and {self.committed} is committed")
        self.applied = index
        self.applying = max(self.applying, index)
        self.applying_size_bytes = max(0, self.applying_size_bytes - size_bytes)
        self.applying_paused = self.applying_size_bytes >= self.max_applying_size_bytes

    def __str__(self) -> str:
        unstable = self.unstable
        return (
            f"committed={self.committed}, applied={self.applied}, applying={self.applying}, "
            f"unstable.offset={unstable.offset}, unstable.offsetInProgress={unstable.offset_in_progress}, "
            f"len(unstable.Entries)={len(unstable.entries)}"
        )

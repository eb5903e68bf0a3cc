"""Compaction: the versions that no read and no watch needs any more are deleted, a few rows at a time.

    compact to revision C    at once: reads below C are refused                         (`Writes.compact`)
    step                     walks over the changes before C, in their order, once:     (`step`)
                               what the change replaced        its row goes; that of a deletion is gone already
                               the change is a deletion        its row goes, and the key's, if that is still the newest

          2.0 put a   3.0 put b   4.0 put a, prev 2.0   5.0 delete b, prev 3.0   6.0 put c
    C = 6             the walk meets 4.0: row 2.0 goes; 5.0: rows 3.0 and 5.0 and the key b go; 6.0 is not before C

What happened at C itself stays until the next compaction, deletions too: a watch may begin at C. (etcd lost that deletion
until 3.5.18, #19179.)

Invariants:

1. The version of each key that was current at C has its row, and so have all changes from C on: each row that goes was
   replaced before C.
2. Which rows are deleted at which entry follows from the log: steps are a part of applying. So nodes have the same rows at
   the same entry.
3. A step is bounded by STEP_ROWS_MAX. After EVERY entries, or sooner if these have changed many keys, there is one that
   walks over PACE times as many changes as they made, so that the backlog shrinks under any load, unless each entry
   changes thousands of keys; and while there is no load, the leader proposes steps (server/v3/etcd.py).

Why a leader waits until there is as much to delete as to keep, and why steps then walk fast: each deletion is a tombstone
in an LSM tree, at the old end of the history. A few memtables full of them cost one compaction of what lies there; one in
each memtable has every compaction read the whole history again. For the same reason it is one scan for many changes.
Measured on an LSM tree (tests/bench/apply_cost.py --compacting): compaction costs 3 µs for each put in the thread that
applies, where a leader that waits for a tenth more than it keeps, and a pace of 2, cost 5.

Cost: each change is read once, and one to three rows are deleted. Follows etcd's server/mvcc/kvstore_compaction.go, which
deletes in a goroutine of each member and so not at the same entry.
"""

from __future__ import annotations

from collections.abc import Sequence

from engines.env import plain_everywhere
from engines.kvstore import Pair
from server.mvcc import Writes
from server.mvcc_compaction_fast import fast_replaced
from server.mvcc_rows import BEFORE, USER, Revision, State, deleted_row, history_key, read_change, revision_at

__all__ = ["EVERY", "OWED_MAX", "PACE", "STEP_ROWS_MAX", "backlog", "due", "pay", "replaced", "step"]

EVERY = 64
PACE = 8
STEP_ROWS_MAX = 1024  # some 4 ms
OWED_MAX = STEP_ROWS_MAX // PACE


def backlog(state: State) -> bool:
    """Whether there are changes before the compacted revision over which no step has walked."""
    return state.walked.main < state.compacted


def due(state: State, keep: int) -> int:
    """The revision to which a leader proposes to compact that keeps so many revisions, 0: all. 0: to none yet, as there
    aren't twice as many."""
    oldest = state.revision - keep
    return oldest if keep and oldest - max(state.compacted, 0) >= keep else 0


def pay(writes: Writes, index: int) -> None:
    """Takes compaction on, if it is time at the entry of this index. The same on every node."""
    owed = writes.owed
    if index % EVERY and owed < OWED_MAX:
        return
    rows = min(PACE * owed + EVERY, STEP_ROWS_MAX)
    writes.owed = max(0, owed - rows // PACE) if backlog(writes.state) else 0
    step(writes, rows)


def step(writes: Writes, rows: int = 0) -> None:
    """Walks over at most so many changes before the compacted revision, STEP_ROWS_MAX if it isn't said. O(rows)."""
    state, rows = writes.state, rows or STEP_ROWS_MAX
    if not backlog(state):
        return
    found = writes.history_rows(state.walked, state.compacted, rows)
    writes.delete_rows(replaced(writes, found) if plain_everywhere() else fast_replaced(writes, found, replaced))
    if len(found) == rows:
        main, sub = revision_at(found[-1][0])
        writes.walked_to = Revision(main, sub + 1)
    else:
        writes.walked_to = Revision(state.compacted, 0)


def replaced(writes: Writes, found: Sequence[Pair]) -> list[bytes]:
    """The keys of the rows that nobody needs after these changes, in the order of the changes; writes nothing. O(rows)."""
    gone = []
    for key, row in found:
        change = read_change(key, row)
        if (
            change.prev not in (None, BEFORE) and change.record.version != 1
        ):  # the first version has replaced a deletion
            assert change.prev is not None
            gone.append(history_key(change.prev))
        if change.deleted:
            gone.append(key)
            at = USER + change.record.key
            if writes.row(at) == deleted_row(Revision(change.main, change.sub)):
                gone.append(at)
    return gone

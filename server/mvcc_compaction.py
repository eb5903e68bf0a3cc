"""Compaction: the versions that no read and no watch needs any more are deleted, a few rows at a time.

    compact to revision C    at once: reads below C are refused                         (`Writes.compact`)
    step                     walks over the changes before C, in their order, once:     (`step`)
                               what the change replaced        its row goes
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
   walks over twice as many changes as they made, so that the backlog shrinks under any load, unless each entry changes
   thousands of keys; and while there is no load, the leader proposes steps (server/v3/etcd.py).

Cost: each change is read once, and one to three rows are deleted. Follows etcd's server/mvcc/kvstore_compaction.go, which
deletes in a goroutine of each member and so not at the same entry.
"""

from __future__ import annotations

from server.mvcc import Writes
from server.mvcc_rows import BEFORE, USER, Revision, State, history_key, read_change, read_newest

__all__ = ["EVERY", "OWED_MAX", "STEP_ROWS_MAX", "backlog", "pay", "step"]

EVERY = 64
STEP_ROWS_MAX = 1024  # some 30 ms on the slowest engine
OWED_MAX = STEP_ROWS_MAX // 2


def backlog(state: State) -> bool:
    """Whether there are changes before the compacted revision over which no step has walked."""
    return state.walked.main < state.compacted


def pay(writes: Writes, index: int) -> None:
    """Takes compaction on, if it is time at the entry of this index. The same on every node."""
    owed = writes.owed
    if index % EVERY and owed < OWED_MAX:
        return
    rows = min(2 * owed + EVERY, STEP_ROWS_MAX)
    writes.owed = max(0, owed - rows // 2) if backlog(writes.state) else 0
    step(writes, rows)


def step(writes: Writes, rows: int = 0) -> None:
    """Walks over at most so many changes before the compacted revision, STEP_ROWS_MAX if it isn't said. O(rows)."""
    state, rows = writes.state, rows or STEP_ROWS_MAX
    if not backlog(state):
        return
    found = writes.history_rows(state.walked, state.compacted, rows)
    for key, row in found:
        change = read_change(key, row)
        if change.prev is not None and change.prev != BEFORE:
            writes.write(history_key(change.prev), None)
        if not change.deleted:
            continue
        writes.write(key, None)
        at = USER + change.record.key
        newest = writes.row(at)
        if newest is not None:
            record = read_newest(change.record.key, newest)
            if (record.mod, record.sub) == (change.main, change.sub):
                writes.write(at, None)
    writes.walked_to = Revision(change.main, change.sub + 1) if len(found) == rows else Revision(state.compacted, 0)

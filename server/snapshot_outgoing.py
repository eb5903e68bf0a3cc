"""The snapshot file that goes to followers: one for all that ask, for as long as the log goes on from it.

Raft names the snapshot at the log's mark. What is sent in its place is

    the newest file that this node has made, if the log still has every entry after it: several followers that were away
        share it, and one whose transfer was cut is sent the rest of the same file, and not another one from the start;
    else the current state: an engine with files of its own has no file at the mark, for it needs none to recover,
        and the current state is the one that leaves the follower the least to catch up with.

Both are right for Raft: a state of an entry that is applied, and so committed, here, with the term and the members of that
entry. Only one that lies before the log's first entry would be of no use to the follower.

Invariants:

1. The file is written once, by the first that wants it; the others wait for it. A write that failed is no file, and the
   next one that asks makes another.
2. While it may be on its way, the entries after it stay in the leader's memory (`holds`), up to HELD times what stays there
   for slow followers: else, under load, the log would be cut past it before the follower has loaded it, and the
   follower would need the next one, for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engines.env import Env
from raft.raftpb import SnapshotMetadata
from server.statemachine import MachineSnapshot

__all__ = ["HELD", "OutgoingSnapshot"]

HELD = 8


class OutgoingSnapshot:
    """One state, as a file that is written when somebody wants it first."""

    def __init__(self, snapshot: MachineSnapshot, write: Callable[[MachineSnapshot], str], env: Env) -> None:
        """write: writes the file of a snapshot, and returns its path. The snapshot's view is closed after it."""
        self.metadata: SnapshotMetadata = snapshot.metadata
        self._snapshot = snapshot
        self._write = write
        self._env = env
        self._guard = threading.Lock()
        self._path = ""
        self._failed = False

    def path(self) -> str:
        """The file's path; written first, if it isn't yet. For jobs. Raises what writing raises. O(bytes), once."""
        with self._guard:
            if self._failed:
                raise OSError(f"the snapshot of index {self.metadata.index} could not be written")
            if not self._path:
                try:
                    with self._snapshot.view:
                        self._path = self._write(self._snapshot)
                except BaseException:
                    self._failed = True
                    raise
            return self._path

    def usable(self, first_index: int) -> bool:
        """True if the log, which begins with the entry `first_index`, goes on from it, and the file isn't gone. O(1)."""
        if self._failed or self.metadata.index + 1 < first_index:
            return False
        return not self._path or self._env.exists(self._path)

    def forget(self) -> None:
        """Closes the view, if nobody has wanted the file; whoever is about to write it finds out. O(1)."""
        if self._guard.acquire(blocking=False):
            try:
                if not self._path:
                    self._failed = True
                    self._snapshot.view.close()
            finally:
                self._guard.release()

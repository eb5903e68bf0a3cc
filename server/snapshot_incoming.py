"""The snapshots that come from peers: one at a time, and what has come of one is kept when the connection is cut.

    a connection ──▶ receive ──▶ another one is being received?  refused: try again later
                                 a part of this very file is here?     its rest is asked for
                                 a part of another file is here?       it is dropped
                                 … chunks …   the connection ends:     the part stays
                                 all there:   verified, synced, renamed (server/snapshot.py, SnapshotReceiver)

Invariants:

1. At most one part is on the disk. It goes when another snapshot comes, when it turns out to be damaged, when the log's mark
   has passed it, and at the node's next start: a power cut may have taken any of its bytes, and what it had is asked for again then.
2. Nothing is resumed but what is named alike: same metadata, same size, same ending (server/snapshot_wire.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from engines.env import Env
from raft.raftpb import SnapshotMetadata
from server.errors import Overloaded
from server.snapshot import SnapshotReceiver
from server.snapshot_wire import Announced

__all__ = ["IncomingSnapshots"]


class IncomingSnapshots:
    """One node's receiving end for snapshots. For any thread."""

    def __init__(self, directory: str, env: Env) -> None:
        self._directory = directory
        self._env = env
        self._guard = threading.Lock()  # held while one is received; its sender may be slow
        self._part: tuple[SnapshotMetadata, Announced, SnapshotReceiver] | None = None
        self.counters = dict.fromkeys(("snapshots_received", "snapshots_resumed", "snapshot_bytes_received"), 0)

    def receive(
        self, metadata: SnapshotMetadata, file: Announced | None, rest: Callable[[int], Iterator[bytes]]
    ) -> None:
        """Makes a snapshot file of what `rest`, called with an offset, brings from there on; it is whole and on disk then.

        file: None if nothing may be kept of it. Raises Overloaded while another one comes, CorruptionError if the whole
        file is damaged or another snapshot than announced, OSError, and what the chunks raise. O(bytes), and two syncs.
        """
        if not self._guard.acquire(blocking=False):
            raise Overloaded("another snapshot is being received: try again later")
        try:
            receiver = self._begin(metadata, file)
            try:
                self._fill(receiver, rest)
            except BaseException:
                if file is None or receiver.failed:
                    self.drop()
                raise
            self._part = None
            receiver.finish()
            self.counters["snapshots_received"] += 1
        finally:
            self._guard.release()

    def _begin(self, metadata: SnapshotMetadata, file: Announced | None) -> SnapshotReceiver:
        if self._part is not None:
            if file is not None and self._part[:2] == (metadata, file):
                self.counters["snapshots_resumed"] += 1
                return self._part[2]
            self.drop()
        receiver = SnapshotReceiver(self._directory, metadata, self._env)
        self._part = (metadata, file or Announced(0, 0), receiver)
        return receiver

    def _fill(self, receiver: SnapshotReceiver, rest: Callable[[int], Iterator[bytes]]) -> None:
        for chunk in rest(receiver.size):
            receiver.write(chunk)
            self.counters["snapshot_bytes_received"] += len(chunk)

    def drop_passed(self, index: int) -> None:
        """Drops the part of a snapshot that isn't after `index`, unless it is being received. O(1)."""
        if self._part is not None and self._part[0].index <= index and self._guard.acquire(blocking=False):
            try:
                self.drop()
            finally:
                self._guard.release()

    def drop(self) -> None:
        """Forgets the part that is there, if any. Requires: nothing is being received."""
        part, self._part = self._part, None
        if part is not None:
            part[2].discard()

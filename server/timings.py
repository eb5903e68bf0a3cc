"""How long a node's disk, its majority and its engine take: the state machine and the storage, with a clock beside them.

    persist ──────▶ committed ──────▶ apply             what is measured
    ├─── commit_duration_seconds ───┤ ├───┤             apply_duration_seconds
       ├──┤ wal_fsync_duration_seconds (server/wal.py)

1. A sample of a commit is a Ready's entries, from before they are written here until this node hands out the last of them as
   committed. On a leader that is what replication takes; on a follower, how long it waits to hear of it.
2. Nothing is measured for a single proposal, and nothing is waited for: three looks at the clock for each Ready.
3. Entries that another leader's overwrite were never committed, and leave no sample.

Follows the histograms of etcd: wal_fsync_duration_seconds, apply_duration_seconds. Left out: labels for the leader and the
followers; `metcd_is_leader` tells them apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from engines.kvstore import KVStore, Snapshot
from raft import Ready
from raft.raftpb import ConfState, Entry
from server.directory import Directory
from server.feed_taps import Taps
from server.marked_views import Views
from server.metrics import Histogram, Metrics, describe
from server.statemachine import Applied, OwnKeys, StateMachine
from server.statemachine_fast import FastMachine
from server.storage import NodeStorage

__all__ = ["TimedMachine", "TimedStorage"]

UNCOMMITTED_MAX = 4096  # Readies that wait for their majority; what is older than the newest of those is not measured

_WAL_COUNTERS = {
    "saves_total": "saves",
    "written_bytes_total": "bytes_written",
    "fsyncs_total": "fsyncs",
    "segments_made_total": "segments_made",
}

describe(
    {
        "applied_index": "Index of the last entry that is in the engine.",
        "wal_segments": "Files of the Raft log.",
        "wal_last_segment_bytes": "Size of the newest of them.",
        "wal_saves_total": "Records of entries and hard state that were written to the Raft log.",
        "wal_written_bytes_total": "Bytes that were written to the Raft log.",
        "wal_fsyncs_total": "Calls of fsync for the Raft log.",
        "wal_segments_made_total": "Files of the Raft log that were begun.",
        "wal_fsync_duration_seconds": "What an fsync of the Raft log's newest file takes.",
        "snapshots_received_total": "Snapshots that came from peers whole.",
        "snapshots_resumed_total": "Snapshots that went on where an earlier connection had ended.",
        "snapshot_bytes_received_total": "Bytes of snapshots that came from peers.",
        "commit_duration_seconds": "From before entries are written here until this node knows that they are committed.",
        "apply_duration_seconds": "What it takes to apply the committed entries of a Ready as one batch of the engine.",
    }
)


class TimedMachine(FastMachine):
    """A state machine that knows how long its batches took, and keeps views of marks (server/marked_views.py)."""

    def __init__(
        self,
        store: KVStore,
        cluster_id: int,
        skip_entries: Collection[int],
        own_keys: Sequence[OwnKeys],
        *,
        now: Callable[[], float],
    ) -> None:
        """now: seconds by the node's clock; the rest, and what is raised, as StateMachine has it."""
        self._views = Views(now)
        super().__init__(store, cluster_id, skip_entries, own_keys)
        self._now = now
        self.taps: Taps | None = None
        self._times = Histogram()
        self._longest_s = 0.0

    def take_longest_s(self) -> float:
        """What the longest batch took since the last call. For the thread that applies."""
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s

    def apply(self, entries: Sequence[Entry], conf_state: ConfState | None = None) -> list[Applied]:
        """Applies as StateMachine does, and looks at the clock before and after."""
        begun = self._now()
        applied = self._views.divided(self, super().apply, entries, conf_state)
        ended = self._now()
        self._times.observe(ended - begun)
        self._longest_s = max(self._longest_s, ended - begun)
        if self.taps is not None:
            self.taps.applied(entries, begun, ended)
        return applied

    def marked(self, index: int) -> AbstractContextManager[Snapshot]:
        """The view of the mark at `index`, for any thread. Entering it raises NotYet, NotMarked."""
        return self._views.read(index, self.applied_index)

    def close(self) -> None:
        """Closes the view and the store."""
        self._views.drop()
        super().close()

    def metrics(self) -> Metrics:
        """What applying took."""
        return {"apply_duration_seconds": self._times, "applied_index": self.applied_index}


class TimedStorage(NodeStorage):
    """A storage that knows how long its entries waited to be committed. Like its base, for the node's thread."""

    def __init__(self, directory: Directory, machine: StateMachine) -> None:
        """As NodeStorage has it; the clock is that of the directory's Env."""
        super().__init__(directory, machine)
        self._now = directory.env.now
        self.taps: Taps | None = None
        self._times = Histogram()
        self._uncommitted: deque[tuple[int, float]] = deque(maxlen=UNCOMMITTED_MAX)  # a Ready's last index, and when

    def persist(self, ready: Ready) -> None:
        """Persists as NodeStorage does; a sample for each earlier Ready whose entries this one hands out as committed."""
        uncommitted, now = self._uncommitted, self._now()
        if ready.committed_entries:
            committed = ready.committed_entries[-1].index
            while uncommitted and uncommitted[0][0] <= committed:
                self._times.observe(now - uncommitted.popleft()[1])
        if ready.entries:
            while uncommitted and uncommitted[-1][0] >= ready.entries[0].index:
                uncommitted.pop()
            uncommitted.append((ready.entries[-1].index, now))
        super().persist(ready)
        if self.taps is not None and ready.entries:
            self.taps.persisted(ready.entries, now, self._now())

    def metrics(self) -> Metrics:
        """The log's counters and times, and how long entries waited."""
        stats = self.stats()
        return {
            **{f"wal_{name}": stats[name] for name in ("segments", "last_segment_bytes")},
            **{f"wal_{ours}": stats[theirs] for ours, theirs in _WAL_COUNTERS.items()},
            **{f"{name}_total": count for name, count in self.snapshot_counters().items()},
            "wal_fsync_duration_seconds": self.fsync_times,
            "commit_duration_seconds": self._times,
        }

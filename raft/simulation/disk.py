"""A driver's log on a simulated disk, record by record, with what a crash takes back.

     records   [ entry | entry | hard state | snapshot | entry | hard state ]
                                                        ▲
                                                     synced: a crash keeps all before, and some of what follows

Invariant: 0 ≤ synced ≤ len(records). Records are kept in the order in which the driver's contract wants them written
(raft/rawnode.py, rule 2), so a write that is torn by a crash leaves a prefix of itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from raft.raftpb import ConfState, Entry, HardState, Snapshot
from raft.storage import MemoryStorage

__all__ = ["Disk", "Record", "records_of"]

Record = Entry | HardState | Snapshot | tuple[Snapshot, int]
"""What a driver writes. A pair is a snapshot taken on this node, and the index up to which the log was cut."""


def records_of(snapshot: Snapshot | None, entries: Sequence[Entry], hard_state: HardState | None) -> list[Record]:
    """One write of a driver, in the order in which it has to be written."""
    records: list[Record] = [] if snapshot is None else [snapshot]
    records.extend(entries)
    if hard_state is not None and not hard_state.is_empty():
        records.append(hard_state)
    return records


class Disk:
    """The records that were written, and how many of them a sync has made safe."""

    def __init__(self, conf_state: ConfState) -> None:
        self.conf_state = conf_state
        self.records: list[Record] = []
        self.synced = 0

    def write(self, record: Record) -> None:
        """Adds a record that a crash may still take back."""
        self.records.append(record)

    def sync(self) -> None:
        """Makes everything written so far safe."""
        self.synced = len(self.records)

    def crash(self, rng: random.Random) -> None:
        """Forgets what wasn't synced, or keeps some prefix of it, as disks do."""
        keep = rng.randint(self.synced, len(self.records)) if rng.random() < 0.5 else self.synced
        del self.records[keep:]
        self.synced = len(self.records)

    def hard_state(self) -> HardState:
        """The hard state that was written last."""
        return next((r for r in reversed(self.records) if isinstance(r, HardState)), HardState())

    def replay(self) -> MemoryStorage:
        """The storage of a node that starts again. O(records)."""
        storage = MemoryStorage(self.conf_state)
        for record in self.records:
            if isinstance(record, Entry):
                storage.append([record])
            elif isinstance(record, HardState):
                storage.set_hard_state(record)
            elif isinstance(record, Snapshot):
                storage.apply_snapshot(record)
            else:
                snapshot, cut = record
                storage.create_snapshot(snapshot.metadata.index, snapshot.metadata.conf_state, snapshot.data)
                storage.compact(cut)
        return storage

"""One simulated node: a RawNode with its disk and its application, driven in the three steps of the driver's contract.

    take      a Ready; the messages that may leave before it is written (raft/util.py, may_send_before_sync)
    write     snapshot, entries, hard state; synced if the Ready must be
    finish    the other messages; the application installs and applies; advance

Between the steps anything may happen: messages and ticks come in, and a crash loses what wasn't synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from raft.config import Config
from raft.errors import CompactedError, UnavailableError
from raft.raftpb import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from raft.rawnode import RawNode, Ready
from raft.simulation.application import Application
from raft.simulation.disk import Disk, Record, records_of
from raft.state import ReadState
from raft.util import may_send_before_sync

__all__ = ["Chance", "Peer"]

Chance = Callable[[str], random.Random]
"""Makes a generator of random numbers from a name. The caller hands in `random.Random`: same name, same numbers."""


class Peer:
    """`up` is False between a crash and the next start. `chance` and `seed` decide the node's election timeouts."""

    def __init__(self, node_id: int, conf_state: ConfState, chance: Chance, seed: int = 0, **config: Any) -> None:
        self.id = node_id
        self.chance = chance
        self.seed = seed
        self.config = {"election_tick": 10, "heartbeat_tick": 1, **config}
        self.disk = Disk(conf_state)
        self.application = self.new_application()
        self.starts = 0
        self.start()

    def new_application(self) -> Application:
        """The application before its first entry."""
        return Application()

    def start(self) -> None:
        """Starts from the disk, after its snapshot; what the application has already is not applied again.

        `Config.applied` is the snapshot's index and not the application's, because the membership changes in between
        have to be applied again.
        """
        self.starts += 1
        self.storage = self.disk.replay()
        self.ready: Ready | None = None
        self.written = False
        self.installed = 0
        self.read_states: list[ReadState] = []
        # Another seed for each start, or nodes that crash together would campaign together for ever.
        rng = self.chance(f"{self.seed}/{self.id}/{self.starts}")
        applied = self.storage.snapshot().metadata.index
        self.node = RawNode(Config(id=self.id, storage=self.storage, applied=applied, rng=rng, **self.config))
        self.up = True

    def crash(self, rng: random.Random) -> None:
        """Loses what wasn't synced, or some of it, and what the application has applied after the snapshot."""
        self.up = False
        self.disk.crash(rng)
        self.storage = self.disk.replay()
        self.application = self.new_application()
        snapshot = self.storage.snapshot()
        if not snapshot.is_empty():
            self.application.install(snapshot.data)

    def tear(self, records: Sequence[Record]) -> None:
        """Writes records of the write that is going on, unsynced: a crash comes in the middle of it."""
        for record in records:
            self.disk.write(record)

    # What a driver does with a write and with entries, in one step or from a queue (threads.py).

    def store(self, records: Sequence[Record], sync: bool) -> None:
        """Writes records in order, to the disk and to the storage that the library reads."""
        for record in records:
            self.disk.write(record)
            if isinstance(record, Entry):
                self.storage.append([record])
            elif isinstance(record, HardState):
                self.storage.set_hard_state(record)
            elif isinstance(record, Snapshot):
                self.storage.apply_snapshot(record)
        if sync:
            self.disk.sync()

    def install(self, snapshot: Snapshot) -> None:
        """The application takes a snapshot that was stored, in place of its state."""
        self.application.install(snapshot.data)
        self.installed = snapshot.metadata.index

    def apply(self, entries: Sequence[Entry]) -> None:
        """Applies entries, and puts membership changes among them in force. An installed snapshot has those up to it."""
        for entry in entries:
            if entry.index > self.application.index:
                assert self.has_on_disk(entry.index, entry.term), f"entry {entry.index} is applied before it is on disk"
                self.application.apply(entry)
            if entry.index > self.installed:
                if entry.type == ENTRY_CONF_CHANGE:
                    self.put_in_force(ConfChange.decode(entry.data))
                elif entry.type == ENTRY_CONF_CHANGE_V2:
                    self.put_in_force(ConfChangeV2.decode(entry.data))

    def put_in_force(self, change: ConfChange | ConfChangeV2) -> None:
        """A membership change was applied."""
        self.node.apply_conf_change(change)

    def has_on_disk(self, index: int, term: int) -> bool:
        """Whether an entry was written here, as itself or in a snapshot."""
        if self.storage.snapshot().metadata.index >= index:
            return True
        try:
            return self.storage.term(index) == term
        except (CompactedError, UnavailableError):
            return False

    # The driver, in its three steps.

    def take(self) -> list[Message]:
        """Takes a Ready; returns the messages that may leave before it is written."""
        self.ready = self.node.ready()
        self.written = False
        return [m for m in self.ready.messages if may_send_before_sync(m)]

    def records(self) -> list[Record]:
        """What the Ready that is being written wants on disk, in order."""
        ready = self.ready
        return [] if ready is None or self.written else records_of(ready.snapshot, ready.entries, ready.hard_state)

    def write(self) -> None:
        """Writes the Ready, and syncs if it has to be. Requires: a Ready was taken."""
        ready = self.ready
        assert ready is not None
        self.store(self.records(), sync=ready.must_sync or ready.snapshot is not None)
        self.written = True

    def finish(self) -> list[Message]:
        """Applies, and advances; returns the messages that had to wait for the disk. Requires: the Ready is written."""
        ready = self.ready
        assert ready is not None
        assert self.written
        if ready.snapshot is not None:
            self.install(ready.snapshot)
        self.apply(ready.committed_entries)
        self.read_states.extend(ready.read_states)
        self.node.advance()
        self.ready = None
        return [m for m in ready.messages if not may_send_before_sync(m)]

    def process(self) -> list[Message]:
        """One whole Ready; returns its messages."""
        early = self.take()
        self.write()
        return early + self.finish()

    def may_take_snapshot(self) -> bool:
        """Whether the configuration in force is that of the application's state: no Ready is half done, and no snapshot
        waits, whose configuration is in force already."""
        return self.ready is None and self.node.raft.log.unstable.snapshot is None

    def take_snapshot(self, keep: int = 0) -> None:
        """A snapshot of the application's state; the log is cut `keep` entries before it."""
        index = self.application.index
        conf_state = self.node.status().conf_state
        snapshot = self.storage.create_snapshot(index, conf_state, self.application.snapshot())
        cut = max(index - keep, self.storage.first_index())
        self.storage.compact(cut)
        self.disk.write((snapshot, cut))
        self.disk.sync()

    # What is looked at from outside.

    def log(self) -> list[tuple[int, int]]:
        """(index, term) of all entries that the node has."""
        log = self.node.raft.log
        return [(index, log.term(index)) for index in range(log.first_index(), log.last_index() + 1)]

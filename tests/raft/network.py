"""A cluster in one thread: nodes with disks that lose what wasn't synced, and a network that does what it is told.

    Disk      the records that a driver wrote, and how many of them a sync has made safe
    Peer      one RawNode with its disk and its application, driven in the three steps of the contract in
              raft/rawnode.py: take (a Ready, early messages out), write (and sync), finish (messages out, apply, advance)
    Network   peers and the messages between them, delivered in order, unless a filter or a partition drops them

Nothing here is random but a crash, which keeps some prefix of what wasn't synced; the random runs are in simulation.py.
"""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from raft import (
    SNAPSHOT_FAILURE,
    SNAPSHOT_FINISH,
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    RawNode,
    ReadState,
    Ready,
    Snapshot,
    StepPeerNotFoundError,
    may_send_before_sync,
)
from raft.kinds import StateType
from raft.raftpb import ENTRY_NORMAL, MSG_SNAP

_APPLICATION = struct.Struct("<QI")


class Disk:
    """A driver's log, record by record. `crash` forgets what wasn't synced, or keeps some of it, as disks do."""

    def __init__(self, conf_state: ConfState) -> None:
        self.conf_state = conf_state
        self.records: list[Entry | HardState | Snapshot | tuple[Snapshot, int]] = []
        self.synced = 0

    def write(self, record: Entry | HardState | Snapshot | tuple[Snapshot, int]) -> None:
        self.records.append(record)

    def sync(self) -> None:
        self.synced = len(self.records)

    def crash(self, rng: random.Random) -> None:
        keep = rng.randint(self.synced, len(self.records)) if rng.random() < 0.5 else self.synced
        del self.records[keep:]
        self.synced = len(self.records)

    def replay(self) -> MemoryStorage:
        """The storage of a node that starts again. A pair is a snapshot taken here, and where the log was cut."""
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


class Application:
    """A state machine whose state is a checksum of all that was applied: equal states mean equal histories."""

    def __init__(self) -> None:
        self.index = 0
        self.checksum = 0
        self.data: list[bytes] = []

    def apply(self, entry: Entry) -> None:
        assert entry.index == self.index + 1, f"entry {entry.index} was handed out after {self.index}"
        self.index = entry.index
        self.checksum = zlib.crc32(entry.encode(), self.checksum)
        if entry.data and entry.type == ENTRY_NORMAL:
            self.data.append(entry.data)

    def snapshot(self) -> bytes:
        return _APPLICATION.pack(self.index, self.checksum) + b"\x00".join(self.data)

    def install(self, data: bytes) -> None:
        self.index, self.checksum = _APPLICATION.unpack_from(data)
        rest = data[_APPLICATION.size :]
        self.data = rest.split(b"\x00") if rest else []


class Peer:
    """One node, its disk, and its application. `up` is False between a crash and the next start."""

    def __init__(self, node_id: int, conf_state: ConfState, seed: int = 0, **config: Any) -> None:
        self.id = node_id
        self.seed = seed
        self.config = {"election_tick": 10, "heartbeat_tick": 1, **config}
        self.disk = Disk(conf_state)
        self.application = Application()
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Starts from the disk, behind the snapshot; what the application has already, it passes over.

        It isn't told to start behind that, because the membership changes in between are to be applied again.
        """
        self.starts += 1
        self.storage = self.disk.replay()
        self.ready: Ready | None = None
        self.written = False
        self.read_states: list[ReadState] = []
        # The seed differs for each start, or nodes that crash together would campaign together for ever.
        rng = random.Random(f"{self.seed}/{self.id}/{self.starts}")
        applied = self.storage.snapshot().metadata.index
        self.node = RawNode(Config(id=self.id, storage=self.storage, applied=applied, rng=rng, **self.config))
        self.up = True

    def crash(self, rng: random.Random | None = None) -> None:
        """Loses what wasn't synced, or some of it, and the application's state behind the snapshot."""
        self.up = False
        self.disk.crash(rng or random.Random(0))
        self.application = Application()
        snapshot = self.disk.replay().snapshot()
        if not snapshot.is_empty():
            self.application.install(snapshot.data)

    def restart(self) -> None:
        self.crash()
        self.start()

    # The driver, in its three steps.

    def take(self) -> list[Message]:
        """Takes a Ready; gives back the messages that may go before it is written."""
        self.ready = self.node.ready()
        self.written = False
        return [m for m in self.ready.messages if may_send_before_sync(m)]

    def records(self) -> list[Entry | HardState | Snapshot]:
        """What the Ready wants on disk, in order."""
        assert self.ready is not None
        ready = self.ready
        records: list[Entry | HardState | Snapshot] = [] if ready.snapshot is None else [ready.snapshot]
        records.extend(ready.entries)
        if ready.hard_state is not None:
            records.append(ready.hard_state)
        return records

    def write(self) -> None:
        assert self.ready is not None
        for record in self.records():
            self.disk.write(record)
        if self.ready.must_sync or self.ready.snapshot is not None:
            self.disk.sync()
        if self.ready.snapshot is not None:
            self.storage.apply_snapshot(self.ready.snapshot)
        self.storage.append(self.ready.entries)
        if self.ready.hard_state is not None:
            self.storage.set_hard_state(self.ready.hard_state)
        self.written = True

    def finish(self) -> list[Message]:
        """Applies, and advances; gives back the messages that had to wait."""
        ready = self.ready
        assert ready is not None
        assert self.written
        if ready.snapshot is not None:
            self.application.install(ready.snapshot.data)
        for entry in ready.committed_entries:
            if entry.index > self.application.index:
                self.application.apply(entry)
            if entry.type != ENTRY_NORMAL:
                self.node.apply_conf_change(entry.conf_change())
        self.read_states.extend(ready.read_states)
        self.node.advance()
        self.ready = None
        return [m for m in ready.messages if not may_send_before_sync(m)]

    def process(self) -> list[Message]:
        """One whole Ready."""
        early = self.take()
        self.write()
        return early + self.finish()

    def take_snapshot(self, keep: int = 0) -> None:
        """A snapshot of the application's state; the log is cut `keep` entries before it."""
        index = self.application.index
        conf_state = self.node.status().conf_state
        snapshot = self.storage.create_snapshot(index, conf_state, self.application.snapshot())
        cut = max(index - keep, self.storage.first_index())
        self.storage.compact(cut)
        self.disk.write((snapshot, cut))
        self.disk.sync()

    # What tests look at.

    def log(self) -> list[tuple[int, int]]:
        """(index, term) of all entries that the node has."""
        log = self.node.raft.log
        first, last = log.first_index(), log.last_index()
        return [(index, log.term(index)) for index in range(first, last + 1)]


class Network:
    """Peers, and the messages under way in the order in which they were sent. `drop` decides which never arrive."""

    def __init__(self, ids: Iterable[int] = (1, 2, 3), seed: int = 0, **config: Any) -> None:
        self.voters = tuple(ids)
        self.peers = {node_id: Peer(node_id, ConfState(self.voters), seed, **config) for node_id in self.voters}
        self.flying: list[Message] = []
        self.drop: Callable[[Message], bool] = lambda m: False

    def __getitem__(self, node_id: int) -> RawNode:
        return self.peers[node_id].node

    def isolate(self, *ids: int) -> None:
        """Cuts these nodes off from the others, together."""
        self.drop = lambda m: (m.to in ids) != (m.from_ in ids)

    def heal(self) -> None:
        self.drop = lambda m: False

    def collect(self) -> bool:
        """Lets every node that has a Ready process it. False if none had."""
        busy = False
        for peer in self.peers.values():
            while peer.up and peer.node.has_ready():
                busy = True
                self.flying.extend(peer.process())
        return busy

    def deliver(self) -> None:
        """Delivers what is under way now, through its encoding."""
        flying, self.flying = self.flying, []
        for message in flying:
            peer = self.peers.get(message.to)
            arrives = peer is not None and peer.up and not self.drop(message)
            if message.type == MSG_SNAP and self.peers[message.from_].up:
                self[message.from_].report_snapshot(message.to, SNAPSHOT_FINISH if arrives else SNAPSHOT_FAILURE)
            if peer is None or not arrives:
                continue
            with contextlib.suppress(StepPeerNotFoundError):
                peer.node.step(Message.decode(message.encode()))

    def settle(self) -> None:
        """Processes and delivers until nothing happens any more."""
        for _ in range(1000):
            if not self.collect() and not self.flying:
                return
            self.deliver()
        raise AssertionError("the network doesn't come to rest")

    def tick(self, count: int = 1, ids: Iterable[int] | None = None) -> None:
        for _ in range(count):
            for node_id in ids or self.peers:
                if self.peers[node_id].up:
                    self.peers[node_id].node.tick()
            self.settle()

    def elect(self, node_id: int) -> None:
        """Has a node campaign, and win."""
        self[node_id].campaign()
        self.settle()
        assert self[node_id].status().raft_state == StateType.LEADER, f"node {node_id} didn't win"

    def leader(self) -> int:
        """The leader of the highest term, 0 if there is none."""
        leaders = [peer.node.status() for peer in self.peers.values() if peer.up]
        leaders = [status for status in leaders if status.raft_state == StateType.LEADER]
        return max(leaders, key=lambda status: status.term).id if leaders else 0

    def propose(self, node_id: int, *datas: bytes) -> None:
        self[node_id].propose_batch(datas)
        self.settle()

    def applied(self) -> list[list[bytes]]:
        """What each application has, in order of id."""
        return [peer.application.data for peer in self.peers.values()]

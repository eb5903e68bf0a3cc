"""Random runs of a cluster, all from one seed, with the properties of Raft checked after every event.

An event is one of: a message arrives (late, twice, out of order), a message is lost, a tick, a third of a driver's
round (take, write, finish; messages and ticks come in between), a proposal, a read, a membership change, a snapshot, a
crash (also in the middle of a write), a start, a partition, its end.

What must hold (figure 3 of the paper, and what follows from it):

    Election Safety          no two leaders in one term
    One Vote                 a node that has granted its vote in a term grants no other, whatever it has forgotten
    Log Matching             entries with the same index and term are the same, and so are those before
    Leader Completeness      a new leader has every entry that was committed in an earlier term
    State Machine Safety     at each index all applications apply the same, in order, without a gap
    Committed Immutable      what any node knew as committed never changes on any node
    Monotonic                term, commit and applied index of a running node never decrease; a restarted node's term is
                             not below what it had synced
    Reads                    a read's index is not below what was committed anywhere when the read was asked for
    Liveness                 when everything is healed, a leader is found, and all end in the same state

Not checked, because they are not true: that a commit index is durable anywhere when it is known (a leader may learn of
it before its own disk has the entry), and that committed logs are more up to date than all others.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from raft import (
    SNAPSHOT_FAILURE,
    SNAPSHOT_FINISH,
    STATE_LEADER,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    ProposalDroppedError,
    RaftError,
    StepPeerNotFoundError,
)
from raft.raftpb import (
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    MSG_SNAP,
    MSG_VOTE_RESP,
)
from tests.raft.network import Peer


class Violation(AssertionError):
    """A property doesn't hold."""


@dataclass
class Profile:
    """How often what happens, in events of 1,000; the rest is ticks, and rounds of the drivers."""

    nodes: int = 3
    deliver: int = 400
    lose: int = 10
    repeat: int = 15
    propose: int = 30
    read: int = 10
    crash: int = 6
    start: int = 20
    partition: int = 6
    snapshot: int = 0
    change: int = 0
    tick: int = 80
    driver: int = 420


@dataclass
class History:
    """What has been seen in a run, to hold new facts against."""

    leaders: dict[int, int] = field(default_factory=dict)
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)
    committed: dict[int, tuple[int, int]] = field(default_factory=dict)
    commit: int = 0
    checksums: dict[int, int] = field(default_factory=dict)

    def see_leader(self, term: int, node_id: int) -> None:
        if self.leaders.setdefault(term, node_id) != node_id:
            raise Violation(f"Election Safety: nodes {self.leaders[term]} and {node_id} lead in term {term}")

    def see_vote(self, node_id: int, term: int, candidate: int) -> None:
        if self.votes.setdefault((node_id, term), candidate) != candidate:
            first = self.votes[node_id, term]
            raise Violation(f"One Vote: node {node_id} votes for {first} and {candidate} in term {term}")

    def see_entry(self, entry: Entry, previous_term: int) -> None:
        fact = (entry.data, previous_term)
        if self.entries.setdefault((entry.index, entry.term), fact) != fact:
            raise Violation(f"Log Matching: entry {entry.index} of term {entry.term} exists twice")

    def see_commit(self, index: int, entry_term: int, leader_term: int) -> None:
        known = self.committed.setdefault(index, (entry_term, leader_term))
        if known[0] != entry_term:
            raise Violation(f"Committed Immutable: entry {index} was of term {known[0]}, and is of term {entry_term}")
        self.commit = max(self.commit, index)

    def see_state(self, index: int, checksum: int) -> None:
        if self.checksums.setdefault(index, checksum) != checksum:
            raise Violation(f"State Machine Safety: states differ at index {index}")


@dataclass
class Watched:
    """What was seen of one node since its start."""

    term: int = 0
    commit: int = 0
    applied: int = 0
    was_leader: bool = False


PROFILES = {
    "solo": Profile(nodes=1, read=60, crash=15, start=60),
    "pair": Profile(nodes=2, crash=15, start=60),
    "calm": Profile(),
    "split": Profile(propose=60, read=40, partition=12, tick=150),
    "five": Profile(nodes=5, propose=40, crash=10, start=40, partition=12, tick=120),
    "slow": Profile(nodes=3, propose=60, partition=12, tick=150, driver=150),
    "snapshots": Profile(crash=10, snapshot=8, partition=10),
    "members": Profile(nodes=5, snapshot=5, change=25, partition=10, tick=120),
}


class Simulation:
    """One run. `run` plays random events, `converge` heals everything and demands agreement."""

    def __init__(self, seed: int, profile: Profile) -> None:
        self.rng = random.Random(f"raft/{seed}")
        self.profile = profile
        self.ids = tuple(range(1, profile.nodes + 1))
        conf_state = ConfState(self.ids)
        self.peers = {
            node_id: Peer(
                node_id,
                conf_state,
                seed,
                election_tick=4,
                max_inflight_msgs=self.rng.choice((1, 2, 64)),
                max_size_per_msg=self.rng.choice((0, 40, 1 << 20)),
                max_committed_size_per_ready=self.rng.choice((0, 60)),
            )
            for node_id in self.ids
        }
        self.watched = {node_id: Watched() for node_id in self.ids}
        self.flying: list[bytes] = []
        self.own_votes: dict[int, list[Message]] = {}
        self.group = dict.fromkeys(self.ids, 0)
        self.history = History()
        self.counter = 0
        self.reads: dict[bytes, int] = {}
        self.reads_answered = 0
        actions = {
            self._deliver: profile.deliver,
            self._lose: profile.lose,
            self._repeat: profile.repeat,
            self._propose: profile.propose,
            self._read: profile.read,
            self._crash: profile.crash,
            self._start_one: profile.start,
            self._partition: profile.partition,
            self._snapshot: profile.snapshot,
            self._change: profile.change,
            self._tick: profile.tick,
            self._drive: profile.driver,
        }
        self.actions: list[Callable[[], None]] = list(actions)
        self.weights = list(actions.values())

    def run(self, events: int) -> None:
        for action in self.rng.choices(self.actions, self.weights, k=events):
            action()

    # Events.

    def _some_peer(self) -> Peer | None:
        peer = self.peers[self.rng.choice(self.ids)]
        return peer if peer.up else None

    def _pick_message(self) -> bytes | None:
        """Takes out one message: usually one of the oldest, sometimes any."""
        if not self.flying:
            return None
        window = len(self.flying) if self.rng.random() < 0.1 else min(len(self.flying), 4)
        return self.flying.pop(self.rng.randrange(window))

    def _deliver(self) -> None:
        data = self._pick_message()
        if data is not None:
            self._arrive(data)

    def _arrive(self, data: bytes) -> None:
        message = Message.decode(data)
        peer = self.peers[message.to]
        if not peer.up or self.group[message.to] != self.group[message.from_]:
            self._report(message, SNAPSHOT_FAILURE)
            return
        self._report(message, SNAPSHOT_FINISH)
        with contextlib.suppress(StepPeerNotFoundError, ProposalDroppedError):
            peer.node.step(message)
        self._check(peer)

    def _lose(self) -> None:
        data = self._pick_message()
        if data is None:
            return
        message = Message.decode(data)
        self._report(message, SNAPSHOT_FAILURE)
        sender = self.peers[message.from_]
        if sender.up and self.rng.random() < 0.5:
            sender.node.report_unreachable(message.to)

    def _report(self, message: Message, status: int) -> None:
        """Tells the sender how the transfer of a snapshot ended, as the contract demands."""
        sender = self.peers[message.from_]
        if message.type == MSG_SNAP and sender.up:
            sender.node.report_snapshot(message.to, status)

    def _repeat(self) -> None:
        data = self._pick_message()
        if data is not None:
            self.flying.append(data)
            self._arrive(data)

    def _propose(self) -> None:
        peer = self._some_peer()
        if peer is None:
            return
        count = self.rng.choice((1, 1, 3))
        self.counter += count
        datas = [b"%d" % (self.counter - position) for position in range(count)]
        with contextlib.suppress(ProposalDroppedError):
            peer.node.propose_batch(datas)
        self._check(peer)

    def _read(self) -> None:
        peer = self._some_peer()
        if peer is None:
            return
        self.counter += 1
        context = b"%d" % self.counter
        self.reads[context] = self.history.commit
        peer.node.read_index(context)

    def _tick(self) -> None:
        peer = self._some_peer()
        if peer is not None:
            peer.node.tick()
            self._check(peer)

    def _drive(self) -> None:
        busy = [p for p in self.peers.values() if p.up and (p.ready is not None or p.node.has_ready())]
        if busy:
            self._drive_peer(self.rng.choice(busy))

    def _drive_peer(self, peer: Peer) -> bool:
        """One third of a round; False if there is nothing to do."""
        if peer.ready is None:
            if not peer.node.has_ready():
                return False
            self._watch_ready(peer)
            self._send(peer, peer.take())
        elif not peer.written:
            peer.write()
        else:
            read_states, peer.read_states = peer.ready.read_states, []
            for read in read_states:
                if read.index < self.reads[read.request_ctx]:
                    raise Violation(f"Reads: index {read.index}, but {self.reads[read.request_ctx]} was committed")
                self.reads_answered += 1
            for vote in self.own_votes[peer.id]:
                self.history.see_vote(peer.id, vote.term, peer.id)
            applied = peer.application.index
            self._send(peer, peer.finish())
            if peer.application.index < applied:
                raise Violation(f"Monotonic: node {peer.id} was at index {applied}, and is at {peer.application.index}")
            self._watch_application(peer)
        self._check(peer)
        return True

    def _send(self, peer: Peer, messages: list[Message]) -> None:
        for message in messages:
            if message.type == MSG_VOTE_RESP and not message.reject:
                self.history.see_vote(peer.id, message.term, message.to)
            if message.to in self.peers:
                self.flying.append(message.encode())

    def _snapshot(self) -> None:
        peer = self._some_peer()
        # Between the steps of a round the driver is busy.
        if peer is not None and peer.ready is None:
            self._take_snapshot(peer)

    def _take_snapshot(self, peer: Peer) -> None:
        if peer.application.index > peer.storage.snapshot().metadata.index:
            peer.take_snapshot(keep=self.rng.choice((0, 0, 3)))

    def _change(self) -> None:
        peer = self._some_peer()
        if peer is None:
            return
        kind = self.rng.choice((CONF_CHANGE_ADD_NODE, CONF_CHANGE_REMOVE_NODE))
        voters = peer.node.status().conf_state.voters
        node_id = self.rng.choice(self.ids)
        if kind == CONF_CHANGE_REMOVE_NODE and len(voters) <= 2:
            return
        with contextlib.suppress(ProposalDroppedError):
            peer.node.propose_conf_change(ConfChange(kind, node_id))

    def _start_one(self) -> None:
        down = [peer for peer in self.peers.values() if not peer.up]
        if down:
            self._start(self.rng.choice(down))

    def _crash(self) -> None:
        writing = [p for p in self.peers.values() if p.up and p.ready is not None and not p.written]
        peer = self.rng.choice(writing) if writing and self.rng.random() < 0.5 else self._some_peer()
        if peer is None:
            return
        if peer.ready is not None and not peer.written:
            # In the middle of the write: some of the records are in the file, none is synced.
            records = peer.records()
            for record in records[: self.rng.randint(0, len(records))]:
                peer.disk.write(record)
        peer.crash(self.rng)

    def _start(self, peer: Peer) -> None:
        peer.start()
        synced = [record.term for record in peer.disk.records if isinstance(record, HardState)]
        term = peer.node.status().term
        if synced and term < synced[-1]:
            raise Violation(f"Monotonic: node {peer.id} starts at term {term}, but had written {synced[-1]}")
        self.watched[peer.id] = Watched(term=term)
        self._watch_application(peer)

    def _partition(self) -> None:
        """Heals everything, or cuts off the leaders, or divides the nodes at random."""
        kind = self.rng.choice(("heal", "leaders", "random"))
        for node_id, peer in self.peers.items():
            if kind == "random":
                self.group[node_id] = self.rng.randrange(2)
            else:
                self.group[node_id] = int(kind == "leaders" and peer.node.raft.state == STATE_LEADER)

    # Checks.

    def _watch_ready(self, peer: Peer) -> None:
        """Before a Ready is taken: the vote for itself that counts when it is written, and the entries to be written."""
        log, promises = peer.node.raft.log, peer.node.raft.messages_after_append
        self.own_votes[peer.id] = [m for m in promises if m.to == peer.id and m.type == MSG_VOTE_RESP]
        for entry in log.unstable.next_entries():
            self.history.see_entry(entry, log.term(entry.index - 1))

    def _watch_application(self, peer: Peer) -> None:
        if peer.application.index:
            self.history.see_state(peer.application.index, peer.application.checksum)

    def _check(self, peer: Peer) -> None:
        """What can have changed on one node by one event."""
        r, watched, history = peer.node.raft, self.watched[peer.id], self.history
        if r.term < watched.term:
            raise Violation(f"Monotonic: the term of node {peer.id} fell from {watched.term} to {r.term}")
        watched.term = r.term
        leads = r.state == STATE_LEADER
        if leads and not watched.was_leader:
            history.see_leader(r.term, peer.id)
            self._check_completeness(peer)
        watched.was_leader = leads
        commit = r.log.committed
        if commit < watched.commit:
            raise Violation(f"Monotonic: the commit index of node {peer.id} fell from {watched.commit} to {commit}")
        if commit > watched.commit:
            for index in range(max(watched.commit + 1, r.log.first_index()), commit + 1):
                history.see_commit(index, r.log.term(index), r.term)
            watched.commit = commit

    def _check_completeness(self, peer: Peer) -> None:
        log, term = peer.node.raft.log, peer.node.raft.term
        first = log.first_index()
        for index, (entry_term, committed_in) in self.history.committed.items():
            if index >= first and committed_in < term and log.term_or_zero(index) != entry_term:
                raise Violation(
                    f"Leader Completeness: node {peer.id} leads in term {term} without entry {index} of term "
                    f"{entry_term}, which was committed in term {committed_in}"
                )

    # The end.

    def converge(self) -> None:
        """Liveness: with everything up and connected, all nodes come to the same state, with a new entry in it."""
        self.group = dict.fromkeys(self.ids, 0)
        for peer in self.peers.values():
            if not peer.up:
                self._start(peer)
        target = self.history.commit + 1
        for _ in range(600):
            for peer in self._up():
                peer.node.tick()
            self._drain()
            leader = self._leader()
            if leader is None:
                continue
            if leader.id not in leader.node.status().conf_state.voters:
                # It would lead, and take no proposals, for ever, so its driver stops it. It starts again, because it
                # may have been added again since, and not know it.
                leader.crash(self.rng)
                self._start(leader)
            elif self._agreed(leader, target):
                return
            elif leader.storage.snapshot().metadata.conf_state != leader.node.status().conf_state:
                # A node that was added needs a snapshot of a configuration with it.
                self._take_snapshot(leader)
            elif leader.application.index < target:
                with contextlib.suppress(ProposalDroppedError):
                    leader.node.propose(b"end")
                self._drain()
        raise Violation(f"Liveness: after healing, nodes are at {[peer.node.status() for peer in self.peers.values()]}")

    def _drain(self) -> None:
        for _ in range(10_000):
            busy = False
            for peer in self._up():
                while self._drive_peer(peer):
                    busy = True
            flying, self.flying = self.flying, []
            for data in flying:
                self._arrive(data)
            if not busy and not flying:
                return
        raise Violation("Liveness: the messages between the nodes never end")

    def _up(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.up]

    def _leader(self) -> Peer | None:
        leaders = [peer for peer in self._up() if peer.node.raft.state == STATE_LEADER]
        return max(leaders, key=lambda peer: peer.node.raft.term, default=None)

    def _agreed(self, leader: Peer, target: int) -> bool:
        """Whether all members have applied the same; a node that was removed needn't learn of anything after."""
        indexes = {self.peers[node_id].application.index for node_id in leader.node.status().conf_state.voters}
        return len(indexes) == 1 and indexes.pop() >= target


def play(seed: int, profile: Profile, events: int) -> Simulation:
    """One run from beginning to end. An exception of a node is a violation, too: it saw what can't be."""
    simulation = Simulation(seed, profile)
    try:
        simulation.run(events)
        simulation.converge()
    except RaftError as error:
        raise Violation(f"seed {seed}: a node stopped: {error}") from error
    except AssertionError as error:
        raise Violation(f"seed {seed}: {error}") from error
    return simulation

"""The driver: one thread that owns the Raft node, and everything that waits for it.

    HTTP threads              inbox                the node's thread                                  other threads
    propose, read_barrier ─▶ ┌───────┐   ┌───────────────────────────────────────────┐
    peers' messages ───────▶ │ queue │──▶│ 1 drain everything that waits, step it      │
    snapshot jobs ─────────▶ └───────┘   │ 2 tick, if it is time                       │
                                         │ 3 handle Readies (server/ready.py):         │
                                         │     send what promises nothing (MsgApp)     │──▶ transport's senders
                                         │     persist: one write, one fsync           │
                                         │     send what promises something            │──▶ transport's senders
    waiters wake up ◀────────────────────│     apply as one engine batch, answer       │──▶ snapshot jobs
                                         └───────────────────────────────────────────┘

Invariants:

1. Only this thread touches the RawNode, its storage, and the applied index. Everything else hands in events.
2. What a message promises is on disk before the message leaves: a vote, a term, an acknowledged entry. What promises
   nothing may overtake the fsync: a leader's MsgApp (thesis 10.2.1), a forwarded proposal.
3. A PUT is answered after it is applied here. If the deadline passes first, the answer is "unknown": the entry may be in
   somebody's log, and may yet be applied.
4. A linearizable read waits for a ReadIndex round that began after the read did, and for that index to be applied here.
   The reads that arrive while a round is on its way share the next one. The time is looked at after the reads were taken,
   followers' reads among them, and before Raft is asked: so a leader that stood still knows that its lease is older than
   its ticks say.
5. A failure of the disk, a damaged file, an entry that can't be applied: the thread ends, every waiter is told, and the
   node says why. It is never retried and never skipped; a restart reads from the disk what really is there.
6. The work of snapshots (reading a whole engine, writing a file, loading one) never runs in this thread.

Draining makes batches by itself: while one fsync runs, proposals gather, and all of them share the next one.

Follows etcd's server/etcdserver/raft.go and contrib/raftexample/raft.go, whose `proposeC`, `confChangeC`, `commitC` and
`errorC` are here the inbox, the entries applied, and `failure`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import engines
from engines.kvstore import Operation
from raft import SNAPSHOT_FAILURE, SNAPSHOT_FINISH, LogLostError, RawNode
from raft.kinds import StateType
from raft.raftpb import ConfState, DecodeError, Message
from server import logs
from server.address_book import AddressBook, first_book
from server.addresses import url_of
from server.changes import Around as Leading
from server.changes import Changes, Wish
from server.config import NodeConfig, raft_config
from server.directory import open_directory
from server.divergence import Diverged, DivergenceAlarm
from server.errors import NodeError, NodeRemoved, NodeStopped, NoLeader, OutcomeUnknown, UndecodableEntry
from server.guards import leads_too_far
from server.handover import Handover
from server.health import Contact, Health
from server.intake import Intake
from server.lab_node import Breakable
from server.lease_reads import BothReads
from server.loop import Loop, new_inbox
from server.loop_calls import Begins
from server.loop_notices import new_outbox
from server.membership import Membership
from server.metrics import Metrics, describe
from server.node_metrics import engine_metrics, merged, process_metrics, stats_of
from server.outstanding import Outstanding
from server.patience import Patience
from server.principal import Principal
from server.proposals import Proposal, Proposals
from server.readmission import Around, Readmission
from server.reads import Waiter
from server.ready import Outgoing, ReadyLoop
from server.sessions import Serial
from server.snapshot_stream import SnapshotStream, SnapshotStreams
from server.snapshot_wire import Announced
from server.timings import TimedMachine, TimedStorage
from server.transport import Transport
from server.v3.etcd import Etcd, Inside
from server.waits import Asked, Waits
from server.watched import Watched

__all__ = ["Node", "NodeConfig"]


HAND_OVER_S = 1.0  # how long a clean shutdown waits for another leader

describe(
    {
        "term": "Raft's term here.",
        "commit_index": "Index of the last entry that this node knows to be committed.",
        "leader": "Id of the leader that this node follows, or its own; 0 if none is known.",
        "is_leader": "1 on the node that leads, as it sees it; 0 on the others.",
        "inbox_events": "Proposals, reads and batches of messages that wait for the node's thread.",
    }
)


class _Public(NamedTuple):
    """What the node's thread lets the others see of the Raft node."""

    role: str
    leader: int
    term: int
    commit_index: int


_ROLES = {role: role.name.lower().replace("_", "-") for role in StateType}

# The kinds of events in the inbox: (kind, what it carries)
_PROPOSE, _READ, _LEASE, _MESSAGES, _CALL, _STOP = range(6)


class Node:
    """One member of a cluster. Every public method may be called by any thread."""

    def __init__(self, config: NodeConfig) -> None:
        """Opens the node's files and recovers; `start` makes it take part.

        Raises DirectoryRefused, StoreLocked, WrongEngine, CorruptionError, UnknownEngine, ValueError for a bad
        configuration, and OSError for a taken port; then nothing stays open.
        """
        self.id, self.config, self._env = config.id, config, config.env
        self._inbox = new_inbox()  # in the fast form it is the loop that serves clients and peers, too
        self.loop = self._inbox if isinstance(self._inbox, Loop) else None
        with contextlib.ExitStack() as undo:
            self._directory = open_directory(config)
            undo.callback(self._directory.close)
            store = engines.open(
                f"{self._directory.path}/engine", config.engine, env=config.env, sync=False, **config.engine_options
            )
            undo.callback(store.close)
            identity = self._directory.identity
            self.members = AddressBook(first_book(identity.addresses()))
            self.etcd = Etcd(config.retention)
            own = [self.members, *self.etcd.own_keys]
            self.machine = TimedMachine(store, identity.cluster_id, config.skip_entries, own, now=config.env.now)
            self._storage = TimedStorage(self._directory, self.machine)
            undo.callback(self._storage.close)
            self._membership = Membership(self._directory, self.members, self.machine, self._was_removed)
            self._roster = self._membership.roster
            peers = self._roster.addresses()
            self._transport = Transport(self._roster, peers, self, config.peer_secret, config.listen_peer, self.loop)
            undo.callback(self._transport.stop)
            conf_state = self.machine.conf_state or ConfState(voters=tuple(sorted(identity.members)))
            self._raft = RawNode(raft_config(config, self._storage.recovered(conf_state), self.machine.applied_index))
            undo.pop_all()
        origin = self._env.rng.getrandbits(64)  # tells our proposals and reads from everybody else's
        self._outbox = new_outbox(self.loop, self._transport, self._env.now, self.machine, self._raft)
        self._proposals = Proposals(origin)
        self._outstanding = Outstanding(self._proposals)
        self._reads = BothReads(origin)
        self._loop = ReadyLoop(
            self._raft, self._storage, self.machine, (self._outstanding, self._reads), self, config, conf_state
        )
        self._handover = Handover(self._raft, self.later, lambda: self._public.leader)
        self._intake = Intake(config.id, self._raft, self._proposals, self._outstanding, self._loop.send, self._env.now)
        asked = self._asked()
        self._waits, self._lease_waits = (Waits(self._proposals, each) for each in (asked, asked.for_leases()))
        inside = self._raft, self._proposals, self._intake, self._waits, self._reads, self._env.now
        self.etcd.attach(self, Inside(identity.cluster_id, *inside))
        self._alarm = self._intake.alarm = DivergenceAlarm(config.id, self.machine, self._raft, self.send)
        self.begins = Begins(self._proposals, asked)
        self.snapshots = SnapshotStreams(self.later, self._storage.snapshot)
        self._public = _Public("follower", 0, 0, 0)
        self._contact = Contact(config.id, peers, config.election_tick * config.tick_s, self._env.now())
        around = Around(self.members, self._roster, self.machine, self._contact, self.later, self._env.now)
        self._readmission = Readmission(self._raft, around)
        self._changes = self._new_changes(origin)
        tapped = (self._transport, self._intake, self._storage, self.machine, self._contact)
        self.watched = Watched(config, self._raft, self._storage, self.machine, self.later, tapped)
        self._stopping, self._tick_at = False, self._env.now()
        self._patience = Patience(config, self._raft, self.machine.take_longest_s, self._env.now)
        self.failure: BaseException | None = None
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"node-{config.id}", daemon=True)

    def _asked(self) -> Asked:
        """What the clients' side asks of this node."""
        return Asked(
            propose=lambda proposal: self._inbox.put((_PROPOSE, proposal)),
            read=lambda waiter: self._inbox.put((_READ, waiter)),
            lease=lambda waiter: self._inbox.put((_LEASE, waiter)),
            leader=lambda: self._public.leader,
            require_member=self._require_member,
            applied_index=lambda: self.machine.applied_index,
            stopping=lambda: self._stopping,
            now=self._env.now,
        )

    def _new_changes(self, origin: int) -> Changes:
        around = Leading(
            self.later,
            self._loop.send,
            lambda: self._contact.lately(self._env.now()),
            self._env.now,
            lambda: self._stopping,
            lambda: self.machine.applied_index,
        )
        changes = Changes(self.id, origin, self._raft, self.members, around)
        self._intake.changes = changes.forwarded
        return changes

    # ---- for any thread ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the listener for peers and the node's thread."""
        self._transport.start()
        self._thread.start()

    def stop(self) -> None:
        """Stops taking part, makes everything durable and closes it; waiters get NodeStopped. Twice is fine."""
        self._inbox.put((_STOP, None))
        self._transport.stop_introducing()
        if self._thread.ident is not None:
            self._thread.join()
        elif not self.stopped.is_set():
            self._close()

    def transfer(self, node_id: int, timeout_s: float = 5.0) -> int:
        """Has the leader hand over to a node (server/handover.py); the term in which it leads. Raises NodeError."""
        return self._handover.transfer(node_id, timeout_s)

    def hand_over(self, timeout_s: float = HAND_OVER_S) -> None:
        """Before a clean shutdown: if this node leads, returns when another one does, or nobody can, or in `timeout_s`."""
        waiter = Waiter()
        self.later(lambda: self._handover.leave(waiter))
        if not self._stopping:
            with contextlib.suppress(NodeError):
                waiter.wait(timeout_s)

    def breakable(self) -> Breakable:
        """What a lab does to this node (server/lab_node.py)."""
        return Breakable(self._transport.cut, self.machine.store.compact, self.later, self._raft, self._may_campaign)

    def stop_waiting(self) -> None:
        """Ends every wait, as the node is about to stop: writes that are on their way are told that they are unknown."""
        self.later(lambda: self._release(NodeStopped("the node stops")))

    def propose(self, operations: Sequence[Operation | Serial | Principal], timeout_s: float = 5.0) -> int:
        """Replicates operations as one; returns the log index once applied here (server/waits.py). Raises NodeError."""
        return self._waits.propose(operations, timeout_s)

    def propose_nowait(self, operations: Sequence[Operation | Serial | Principal]) -> None:
        """Proposes and doesn't wait (server/waits.py). Raises NodeError: then nothing was written."""
        self._waits.propose_nowait(operations)

    def read_barrier(self, consistency: str = "linearizable", timeout_s: float = 5.0) -> int:
        """Returns once what is applied here is recent enough to be read (server/waits.py). Raises NoLeader, NodeStopped."""
        waits = self._lease_waits if consistency == "lease" else self._waits
        return waits.read_barrier(consistency, timeout_s)

    def snapshot_stream(self) -> SnapshotStream:
        """What is applied here, as a snapshot file's bytes (server/snapshot_stream.py). Raises Overloaded, NodeStopped."""
        return self.snapshots.open()

    def change_members(self, wish: Wish, timeout_s: float = 8.0) -> int:
        """Changes the membership; returns the entry's index once applied here (server/changes.py). Raises NodeError."""
        self._require_member()
        return self._changes.change(wish, timeout_s)

    def describe_members(self) -> dict[str, Any]:
        """The cluster and its members by the applied book, ready for JSON; with what this node knows of them if it leads."""
        return self._membership.describe(self._public.leader, self._changes.view())

    def _require_member(self) -> None:
        if self._roster.kept_out:
            way = self._readmission.sentence()
            raise NoLeader(
                f"this node is kept out of its cluster: {self._roster.kept_out}{f'; it {way}' if way else ''}"
            )

    def status(self) -> dict[str, Any]:
        """What the node is and knows, ready for JSON."""
        public = self._public
        return {
            "id": self.id,
            "pid": self._env.pid(),
            "engine": self.config.engine,
            "cluster": f"{self._roster.cluster_id:016x}",
            "kept_out": self._roster.kept_out,
            "role": public.role,
            "leader": public.leader,
            "term": public.term,
            "commit_index": public.commit_index,
            "applied_index": self.machine.applied_index,
            "removed": self._membership.removed,
            "readmission": self._readmission.sentence(),
            "peers": {str(peer): url_of(*address) for peer, address in sorted(self._roster.addresses().items())},
            "connected": {str(peer): connected for peer, connected in self._transport.connected().items()},
            "stats": stats_of(self.machine.store.stats()),
        }

    def alive(self) -> bool:
        """True if the node takes part, whether or not the others answer it."""
        return not self._stopping and self._thread.is_alive()

    def health(self) -> Health:
        """Asks the cluster for a linearizable read, and waits an election timeout at most."""
        failure: str | None = None
        try:
            self.read_barrier(timeout_s=self.config.election_tick * self.config.tick_s)
        except NodeError as error:
            failure = str(error)
        health = self._contact.health(failure, self._transport.connected(), self._env.now())
        health.report["cluster"] = f"{self._roster.cluster_id:016x}"
        health.report["readmission"] = self._readmission.sentence()
        return health

    def metrics(self) -> Metrics:
        """Counters, gauges and histograms by name (server/metrics.py)."""
        public = self._public
        return {
            "term": public.term,
            "commit_index": public.commit_index,
            "leader": public.leader,
            "is_leader": int(public.leader == self.id),
            "inbox_events": self._inbox.waiting(),
            **merged(self.machine, self._storage, self._contact, self._loop, self._intake, self._alarm),
            **merged(self._proposals, self._reads, self._transport, self.etcd, logs),
            **engine_metrics(self.config.engine, self.machine.store.stats()),
            **process_metrics(),
        }

    # ---- for the transport's threads --------------------------------------------------------------------------------

    def receive(self, messages: list[Message]) -> None:
        """Takes messages from a peer."""
        if self._roster.kept_out:
            return
        self._inbox.put((_MESSAGES, messages))

    def receive_snapshot(self, message: Message, file: Announced, rest: Callable[[int], Iterator[bytes]]) -> None:
        """Writes a snapshot's file, verifies it, and only then lets Raft hear of it."""
        assert message.snapshot is not None
        if leads_too_far(message, self._public.term):
            raise DecodeError(f"it is of term {message.term:,}, and no number of elections leads there from here")
        self._storage.receive_rest(message.snapshot.metadata, file, rest)
        self._inbox.put((_MESSAGES, [message]))

    def unreachable(self, node_id: int, dropped: list[Message]) -> None:
        """Tells Raft; proposals that surely were not sent will be proposed again."""
        self.later(lambda: self._raft.report_unreachable(node_id))
        self.later(lambda: self._intake.unsent(dropped))

    def _may_campaign(self) -> bool:
        return not self._roster.kept_out and self._membership.may_campaign()

    def _was_removed(self, why: str) -> None:
        self.later(lambda: self._membership.leave(why))

    def snapshot_sent(self, node_id: int, delivered: bool) -> None:
        """Tells Raft how a snapshot's journey ended."""
        status = SNAPSHOT_FINISH if delivered else SNAPSHOT_FAILURE
        self.later(lambda: self._raft.report_snapshot(node_id, status))

    # ---- the node's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._transport.wait_until_introduced(self.config.election_tick * self.config.tick_s)
            deadline = self._env.now() + self.config.tick_s

            def tick_is_due() -> bool:
                return self._env.now() >= deadline

            while not self._stopping:
                unfinished = self._raft.has_ready() and not self._roster.kept_out
                self._tick_at = deadline
                self._drain(0.0 if unfinished else min(deadline, self._outbox.due) - self._env.now())
                now = self._env.now()
                if self._roster.kept_out:  # neither time nor a message moves it: it promises nothing
                    self._public = _Public("kept out", 0, self._public.term, self._public.commit_index)
                    self._readmission.ask(self._transport)
                    deadline = now + self.config.tick_s
                    continue
                ticked = now >= deadline
                if ticked:
                    if self._may_campaign():
                        self._patience.tick()
                    self._reads.tick()
                    self._alarm.tick()
                    self.etcd.tick()
                    # However late it is, it is one tick: a node that was stopped must not find that it has heard from
                    # nobody for ten of them.
                    deadline += self.config.tick_s
                    if deadline <= now:
                        self._raft.paused(int((now - deadline) / self.config.tick_s) + 1)
                        deadline = now + self.config.tick_s
                self._loop.run(tick_is_due)
                while self._intake.propose_again(self._loop.settled_term, ticked):
                    ticked = False
                    self._loop.run(tick_is_due)
                self._outbox.flush()
                if not self._storage.installing:  # a job loads the book, and then its index
                    self._membership.follow(self._transport, self._contact, self._changes.answer)
                self._readmission.follow()
                self._publish()
        except BaseException as error:
            self.failure = error
            if isinstance(error, LogLostError | Diverged):  # it must not vote again, not even before the next start
                self._log(f"stops: {self._directory.condemn(str(error))}")
            elif isinstance(error, (UndecodableEntry, NodeRemoved)):
                self._log(f"stops: {error}")
            else:
                self._log(f"stops, because of {type(error).__name__}: {error}")
        finally:
            self._close()

    def _publish(self) -> None:
        raft, before = self._raft, self._public
        self._public = public = _Public(_ROLES[raft.role], raft.lead, raft.term, raft.commit_index)
        self._handover.look()
        self._roster.leader = raft.lead
        if public[:3] != before[:3]:
            self._contact.became(public.role, public.leader, public.term, self._env.now())
            self.etcd.first()

    def _drain(self, timeout_s: float) -> None:
        """Waits for an event, then takes all that are there; their proposals become as few messages as possible."""
        proposals: list[Proposal] = []
        events = self._inbox.wait(timeout_s)
        stood_still = int((self._env.now() - self._tick_at) / self.config.tick_s)
        if stood_still > 0:  # before the events: a follower's lease read may be among them
            self._raft.paused(stood_still)
        for kind, content in events:
            if kind == _PROPOSE:
                proposals.append(content)
            elif kind == _READ:
                self._reads.add(content)
            elif kind == _LEASE:
                self._reads.add_lease(content)
            elif kind == _MESSAGES:
                self._outbox.heard(content)
                self._contact.heard(content[0].from_, self._env.now())
                self._intake.step(
                    self._readmission.meant_for_another(content) if self._readmission.arrives else content
                )
            elif kind == _CALL:
                content()
            else:
                self._stopping = True
        if proposals:
            self._proposals.take(proposals)
            self.etcd.first()
            self._intake.propose(proposals)

    def send(self, messages: Sequence[Message]) -> None:
        """Hands messages to the transport; a node that is kept out sends none. For the node's thread."""
        if not self._roster.kept_out:
            self._outbox.send(messages)

    def send_snapshot(self, message: Message, outgoing: Outgoing) -> None:
        """Hands a snapshot to the transport, which has its file made in a job. For the node's thread."""
        if not self._roster.kept_out:
            self._transport.send_snapshot(*outgoing(message))

    def later(self, call: Callable[[], object]) -> None:
        """Has a function called in the node's thread; how the storage's jobs report their end. For any thread."""
        self._inbox.put((_CALL, call))

    def confirmed(self) -> None:
        """A majority has confirmed the leader. For the node's thread."""
        self._contact.confirmed(self._env.now())

    def _close(self) -> None:
        """Ends everything, in the order in which it depends on each other."""
        self._stopping = True
        self._public = self._public._replace(leader=0)
        stopped = NodeStopped(
            "the node has stopped" if self.failure is None else f"the node has failed: {self.failure}"
        )
        self._release(stopped)
        self._inbox.close()
        for kind, content in self._inbox.drain():
            if kind in (_READ, _LEASE):
                content.resolve(stopped)
        self._storage.stop_writing()
        self.snapshots.stop()
        self.etcd.close()
        self._transport.stop()
        self._storage.close()
        try:
            self.machine.close()
        except Exception as error:
            self._log(f"its store closed badly: {error}")
        logs.flush()
        self.stopped.set()

    def _release(self, stopped: NodeStopped) -> None:
        """Wakes everybody who waits; what is proposed from now on is refused."""
        self._outstanding.close(stopped)
        self._proposals.close(OutcomeUnknown(f"{stopped} while the write was on its way: read the key to find out"))
        self._reads.refuse_all(stopped)
        self._handover.close(stopped)
        self._changes.close(stopped)

    def _log(self, sentence: str) -> None:
        logs.logger().warning("node %d: %s", self.id, sentence)

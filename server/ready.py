"""What a node does with each Ready of its Raft: send, persist, send, install, apply, answer. No thread and no clock.

    RawNode ──ready()──▶ handle:
                           send       what promises nothing: a leader's MsgApp, a request passed on
                           persist    hard state and entries: one write, one fsync          (server/storage.py)
                           send       what promises something: votes, acknowledged entries
                           install    a snapshot of the leader, in a job                    (server/storage.py)
                           advance    Raft hands out the next Ready
                           apply      what is committed: one engine batch                   (server/statemachine.py)
                           answer     whose proposals those were, and who waits to read

Invariants:

1. What a message promises is on disk before the message leaves: a vote, a term, an acknowledged entry. What promises
   nothing may overtake the fsync (thesis 10.2.1).
2. Entries are applied in the order of their indexes, each once. What a Ready hands out again after a restart or a
   snapshot is passed over by the applied index that is in the engine.
3. While a snapshot is being loaded, or the engine flushed, nothing is applied; what is committed meanwhile waits. Reads of
   what was applied before don't wait for a flush.
4. Who waits is told after the apply, and never before it.
5. A snapshot hides what it has applied: the proposals that may be in it are told so before anything after it is applied.

server/node.py has the thread that calls this, and everything that comes in. Follows etcd's server/etcdserver/raft.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from raft import SNAPSHOT_FAILURE, RawNode, Ready, may_send_before_sync
from raft.raftpb import MSG_SNAP, ConfState, Entry, Message, SnapshotMetadata
from raft.state import ReadState
from server.address_book import CONF_CHANGES
from server.logs import logger
from server.metrics import Metrics, describe
from server.outstanding import Outstanding
from server.readmission import put_in_force
from server.reads import ReadRounds
from server.statemachine import StateMachine
from server.storage import CutLimits, NodeStorage

__all__ = ["Outgoing", "Outside", "ReadyLoop"]

describe(
    {
        "readies_total": "Readies of Raft that were handled: each is one write of the log, at most.",
        "messages_out_total": "Raft messages to peers.",
    }
)

Outgoing = Callable[[Message], tuple[Message, Callable[[], str]]]


class Outside(Protocol):
    """What lies around one node's ReadyLoop."""

    def send(self, messages: Sequence[Message]) -> None:
        """Hands messages to the transport, in their order. Never blocks."""

    def send_snapshot(self, message: Message, outgoing: Outgoing) -> None:
        """Hands over a MsgSnap; `outgoing` gives the message to send in its place, and what writes the file, in a job."""

    def later(self, call: Callable[[], object]) -> None:
        """Has a function called by the thread that owns the loop, after what it is doing."""

    def confirmed(self) -> None:
        """A majority has confirmed the leader."""


class ReadyLoop:
    """One node's way from a Ready to the disk, the peers and the engine. Only for the thread that owns the node."""

    def __init__(
        self,
        raft: RawNode,
        storage: NodeStorage,
        machine: StateMachine,
        waiting: tuple[Outstanding, ReadRounds],
        outside: Outside,
        limits: CutLimits,
        conf_state: ConfState,
    ) -> None:
        """waiting: who is told what became of writes and reads. conf_state: the members in force at the applied index."""
        self._raft = raft
        self._storage = storage
        self._machine = machine
        self._proposals, self._reads = waiting
        self._outside = outside
        self._limits = limits
        self._conf_state = conf_state
        self._backlog: list[Entry] = []  # committed, and not applied yet
        storage.resume = self.apply_backlog
        self.counters = dict.fromkeys(("messages_out", "readies"), 0)

    def metrics(self) -> Metrics:
        """Readies and messages."""
        return {f"{name}_total": count for name, count in self.counters.items()}

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Handles Readies, and begins read rounds, until there is nothing left to do.

        interrupted: asked after each Ready; true if something else has to be done first, such as a tick. A node that
        applies a long log after a restart has heartbeats to send meanwhile.
        """
        self._begin_read_round()
        while self._raft.has_ready():
            self.counters["readies"] += 1
            self.handle(self._raft.ready())
            self._begin_read_round()
            if interrupted():
                return

    def _begin_read_round(self) -> None:
        self._reads.begin(self._raft.lead, self._raft.read_index)

    def handle(self, ready: Ready) -> None:
        """Carries out one Ready, in the order of this module's picture.

        ready: the newest of the RawNode, whose `advance` has not been called for it; `run` guarantees that. After it
        returns, all its messages were given to `send`, in two parts: those for which `may_send_before_sync` is true
        before `NodeStorage.persist`, the others after that. A snapshot was handed to `install`, read states to
        `confirm_reads`, membership changes among the committed entries to `change_members`; the committed entries are at
        the end of the backlog, `advance` was called once, and unless `NodeStorage.engine_busy`, the backlog was applied.
        Raises what persist and apply_backlog raise: then nothing that comes later in this order was done.
        """
        self.send([message for message in ready.messages if may_send_before_sync(message)])
        self._storage.persist(ready)
        self.send([message for message in ready.messages if not may_send_before_sync(message)])
        if ready.snapshot is not None:
            self.install(ready.snapshot.metadata)
        self.confirm_reads(ready.read_states)
        self.change_members(ready.committed_entries)
        self._backlog += ready.committed_entries
        self._raft.advance()
        if not self._storage.engine_busy:
            self.apply_backlog()

    def apply_backlog(self) -> None:
        """Applies all that is committed, answers who waits for it, and has the log cut when it is time.

        Requires: no job has the engine. The backlog is empty afterwards. Entries up to `StateMachine.applied_index`
        are passed over; the rest are applied by one call of `StateMachine.apply`, or none if none are left. The members in
        force are given to it if the machine has others, or has none yet (its applied index is 0). What it returns goes to
        `_proposals.answer`; then, if `NodeStorage.wants_cut` says so, a cut begins. In any case, the reads whose index is
        applied now are answered last.
        """
        entries = [entry for entry in self._backlog if entry.index > self._machine.applied_index]
        self._backlog = []
        if entries:
            changed = self._machine.applied_index == 0 or self._conf_state != self._machine.conf_state
            self._proposals.answer(self._machine.apply(entries, self._conf_state if changed else None))
            if self._storage.wants_cut(entries, self._limits):
                self._storage.begin_cut(self._limits, self._outside.later)
        self._reads.answer(self._machine.applied_index)

    def send(self, messages: Sequence[Message]) -> None:
        """Hands messages to the outside. In place of the snapshot that Raft named goes one that the log goes on from and
        that is at hand (server/snapshot_outgoing.py)."""
        self.counters["messages_out"] += len(messages)
        for message in messages:
            if message.type == MSG_SNAP:
                if self._storage.installing:
                    self._raft.report_snapshot(message.to, SNAPSHOT_FAILURE)
                else:
                    self._outside.send_snapshot(message, self._storage.outgoing_snapshot)
        self._outside.send([message for message in messages if message.type != MSG_SNAP])

    def install(self, metadata: SnapshotMetadata) -> None:
        """Begins to load the snapshot that was just recorded; what is committed meanwhile waits."""
        logger().warning("node %d: loads the snapshot of index %d", self._raft.raft.id, metadata.index)
        self._conf_state = metadata.conf_state
        self._storage.begin_install(self._outside.later, self._installed)

    def _installed(self) -> None:
        self._proposals.hide(self._machine.applied_term)
        self.apply_backlog()

    @property
    def settled_term(self) -> int:
        """The term of the last entry that was applied here and that proposals were answered up to; 0 if none was yet."""
        return 0 if self._storage.installing else self._machine.applied_term

    def confirm_reads(self, read_states: Sequence[ReadState]) -> None:
        """Tells the rounds of reads which of them a leader has confirmed, and at which index.

        While the engine is flushed, nothing is applied and so nobody else looks at them: what has been applied may be read.
        """
        for state in read_states:
            self._reads.confirm(state.request_ctx, state.index)
            self._outside.confirmed()
        if read_states and self._storage.engine_busy and not self._storage.installing:
            self._reads.answer(self._machine.applied_index)

    def change_members(self, entries: Sequence[Entry]) -> None:
        """Puts the membership changes among committed entries in force, as Raft wants it before `advance`."""
        for entry in entries:
            if entry.type in CONF_CHANGES:
                self._conf_state = put_in_force(self._raft, self._machine.conf_change(entry))
                self._machine.note_members(entry.index, self._conf_state)

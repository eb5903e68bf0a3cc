"""RawNode: the way in and out for a driver. What happens goes in; what is to be done comes out as a Ready.

    while True:
        node.tick()                             every 100 ms or so, by the driver's own clock
        node.step(message)                      for each message from a peer
        node.propose_batch([data, …])           for what clients want
        while node.has_ready():
            ready = node.ready()
            send the messages that `may_send_before_sync` lets go (util.py); the leader's way to save a disk write
            write ready.snapshot, ready.entries, ready.hard_state; fsync if ready.must_sync, or if there is a snapshot
            send the other messages
            install ready.snapshot; apply ready.committed_entries, in order
            for a membership change among them: node.apply_conf_change(…)
            node.advance()
            answer the reads of ready.read_states once their index is applied

The driver's contract
 1. One thread. Between ready() and advance(), step, tick and propose may be called; what follows from them is in the
    next Ready.
 2. The write is one unit: after a crash in the middle of it, either nothing or a prefix of it is there, in the order
    snapshot, entries, hard state, so that the hard state's commit index is never beyond the log's end (etcd#10219).
    Entries replace what the log has from the first one's index on.
 3. No message but the early ones leaves before what its Ready holds is durable. Where must_sync is False, there is
    nothing in it that would have to be.
 4. Committed entries are applied after the write: those of this Ready may be among them. `advance` means: all of the
    Ready is durable, and its committed entries are applied.
 5. Messages may be lost, repeated, delayed and reordered; `report_unreachable` tells of a loss, and `report_snapshot`
    of the end of a transfer, whichever it was: until then its follower gets nothing else.
 6. After a node is added, a snapshot is taken once that is applied: older ones are of a configuration without the node,
    and it can't be sent them.
 7. With `Config.async_storage_writes` writes and applications are messages instead (storage_writes.py).
 8. An exception from a call other than the documented ones means that the node must stop.

Follows etcd-io/raft: rawnode.go and node.go (Ready).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from raft import leader, reads
from raft.bootstrap import Peer, bootstrap
from raft.config import Config
from raft.errors import RaftPanic, StepLocalMsgError, StepPeerNotFoundError
from raft.kinds import SnapshotStatus, StateType
from raft.outcomes import Place
from raft.raft import Raft
from raft.raftpb import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP_STATUS,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    MSG_VOTE_RESP,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from raft.state import STATE_LEADER, ReadState, SoftState
from raft.status import Status, get_status
from raft.storage_writes import append_message, append_response, apply_message
from raft.util import LOCAL_APPLY_THREAD, NONE, must_sync

__all__ = ["SNAPSHOT_FAILURE", "SNAPSHOT_FINISH", "RawNode", "Ready"]

SNAPSHOT_FINISH: Final = SnapshotStatus.FINISH
SNAPSHOT_FAILURE: Final = SnapshotStatus.FAILURE

_LOCAL: Final = frozenset(
    (
        MSG_HUP,
        MSG_BEAT,
        MSG_UNREACHABLE,
        MSG_SNAP_STATUS,
        MSG_CHECK_QUORUM,
        MSG_STORAGE_APPEND,
        MSG_STORAGE_APPEND_RESP,
        MSG_STORAGE_APPLY,
        MSG_STORAGE_APPLY_RESP,
    )
)
_FROM_THREADS: Final = frozenset((MSG_STORAGE_APPEND_RESP, MSG_STORAGE_APPLY_RESP))
_REQUESTS: Final = frozenset((MSG_PROP, MSG_READ_INDEX))
_ANSWERS: Final = frozenset((MSG_APP_RESP, MSG_HEARTBEAT_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP))
_PROMISES: Final = frozenset((MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP))
# They name the node that asked, or the one that is to lead; the node that passes them on isn't named.
_PASSED_ON: Final = frozenset((MSG_PROP, MSG_READ_INDEX, MSG_TRANSFER_LEADER))


@dataclass(slots=True)
class Ready:
    """What the driver has to do now. Its lists are the driver's to read, and never change.

    soft_state: the leader and this node's role, if they changed; None otherwise.
    hard_state: to be written, if it changed.
    read_states: reads that may be done as soon as their index is applied.
    entries: to be written to the log, replacing what is there from the first one's index on.
    snapshot: to be written and installed, before the entries.
    committed_entries: to be applied, after the entries are written: those of this Ready may be among them.
    messages: to be sent, in this order to each peer; see `may_send_before_sync`.
    must_sync: whether hard_state and entries have to be on disk before anything else goes on. A snapshot always has.
    """

    soft_state: SoftState | None
    hard_state: HardState | None
    read_states: list[ReadState]
    entries: list[Entry]
    snapshot: Snapshot | None
    committed_entries: list[Entry]
    messages: list[Message]
    must_sync: bool


class _HandedOut(NamedTuple):
    """What `advance` has to tell the node about the last Ready: what the two threads would answer (storage_writes.py).

    own: this node's votes and acknowledgements; they come first, as they would from a peer, and carry the term in which
        they were made, so a later term doesn't count them.
    stored: what is on disk.    applied, payload_bytes: the entries that are applied, and the bytes of their data.
    """

    own: list[Message]
    stored: Message | None
    applied: list[Entry]
    payload_bytes: int


class RawNode:
    """One node of a cluster, for one thread.

    A new cluster starts with the same `MemoryStorage(conf_state=…)` on every node; a node that starts again, with the
    storage that its log was read back into. Every call is O(what it hands on) in memory, with no input or output.
    """

    __slots__ = ("_asynchronous", "_handed_out", "_previous_hard_state", "_previous_soft", "raft")

    def __init__(self, config: Config) -> None:
        self.raft = Raft(config)
        self._previous_soft: tuple[int, StateType] = (self.raft.lead, self.raft.state)
        self._previous_hard_state = self.raft.hard_state()
        self._handed_out: _HandedOut | None = None
        self._asynchronous = config.async_storage_writes

    def bootstrap(self, peers: Sequence[Peer]) -> None:
        """Starts a new cluster of these peers, whose members all call this; see `MemoryStorage` for the other way.

        Raises `ValueError` without peers, and for a storage that isn't empty.
        """
        bootstrap(self.raft, peers)
        # So that the first Ready has the term, the entries, and the commit index.
        self._previous_hard_state = HardState()

    # What the driver asks most often; `status` has the rest.

    @property
    def role(self) -> StateType:
        return self.raft.state

    @property
    def lead(self) -> int:
        """The leader of the current term; 0 if none is known."""
        return self.raft.lead

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def commit_index(self) -> int:
        return self.raft.log.committed

    # In.

    def tick(self) -> None:
        """One unit of time. After a pause of the process, one tick and not all that were missed: a burst would make a
        follower campaign that only slept."""
        self.raft.tick()

    def paused(self, ticks: int) -> None:
        """So many ticks were missed, because the process stood still: the lease of a leader has grown older by them.

        Nothing else has: a node that only slept has no reason to campaign.
        """
        self.raft.read_only.ticks += ticks

    def wait_for_followers(self, ticks: int) -> None:
        """Gives a leader's followers so many ticks more to answer, before it looks whether it has a quorum: they are busy
        with what this node has done. Requires: it leads."""
        self.raft.election_elapsed = -ticks

    def campaign(self) -> None:
        """Asks for the leadership now instead of after a timeout."""
        self.raft.step(Message(MSG_HUP))

    def propose(self, data: bytes) -> Place | None:
        """Asks for one entry; `propose_batch` with one. Raises `ProposalDroppedError`."""
        return self.propose_batch([data])

    def propose_batch(self, datas: Sequence[bytes], context: bytes = b"") -> Place | None:
        """Asks for entries with these data, in this order, all of them or none. Requires: at least one.

        Returns the place of the first one in this leader's log; None if they were passed on to the leader.

        `context` travels with them to the leader, and is not looked at here: what the driver there has to know of them.

        Nothing here says that they were committed: the driver finds them in committed_entries, or others at their place
        (outcomes.py). A follower sends them to its leader, and they may be lost on the way, silently. Raises
        `ProposalDroppedError` if there is no leader or too much waits already; then nothing of them was written
        anywhere.
        """
        r = self.raft
        # Joined and not summed: what is no bytes is a TypeError here, and not later when the entries are written.
        payload_bytes = len(b"".join(datas))
        if r.state == STATE_LEADER and datas:
            # Its entries are made once, with their term and index.
            return Place(leader.propose(r, datas, payload_bytes), r.term)
        return self._propose([Entry(0, 0, ENTRY_NORMAL, data) for data in datas], context)

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> Place | None:
        """Asks for a membership change. It takes effect when its entry is committed, applied by the driver, and handed
        to `apply_conf_change`, on each node.

        A change that the leader finds to be made at the wrong time (another one is under way) is committed as an empty
        entry. Raises `ProposalDroppedError`.
        """
        kind = ENTRY_CONF_CHANGE if isinstance(change, ConfChange) else ENTRY_CONF_CHANGE_V2
        return self._propose([Entry(0, 0, kind, change.encode())])

    def _propose(self, entries: list[Entry], context: bytes = b"") -> Place | None:
        if not entries:
            raise ValueError("a proposal needs at least one entry")
        r = self.raft
        r.step(Message(MSG_PROP, from_=r.id, entries=entries, context=context))
        return Place(r.log.last_index() - len(entries) + 1, r.term) if r.state == STATE_LEADER else None

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Puts a committed membership change in force; returns the configuration, which snapshots have to carry.

        Must be called for each entry of type ENTRY_CONF_CHANGE among committed_entries, before `advance`. A driver that
        rejects a change calls it with node_id 0. A driver whose own node is removed stops the node some time after: a
        leader that is removed goes on leading, so that its removal gets to the others, but takes no more proposals.
        Raises `ConfChangeError` for a change that can't be made.
        """
        return self.raft.apply_conf_change(change.as_v2())

    def read_index(self, request_ctx: bytes, safe: bool = False) -> None:
        """Asks for an index at which a read on this node is linearizable; it comes back in read_states.

        safe: a quorum has to confirm it, also where READ_ONLY_LEASE_BASED would answer on the leader's lease.

        One call for all reads that wait is enough. Without a leader, or if a message is lost, nothing comes back: ask
        again after a while. The same request_ctx may be used again.
        """
        context = reads.SAFE if safe else b""
        self.raft.step(Message(MSG_READ_INDEX, entries=[Entry(0, 0, data=request_ctx)], context=context))

    def step(self, message: Message) -> None:
        """Takes in a message from a peer. The message belongs to this node from then on.

        Raises `StepLocalMsgError` for what can't come from a peer, `StepPeerNotFoundError` for a message that is meant
        for another node or answers from outside of the configuration, and `ProposalDroppedError` for a proposal sent on
        by a peer. All of these can be ignored.
        """
        r = self.raft
        kind = message.type
        if kind in _LOCAL or message.term == 0:
            if kind in _FROM_THREADS and self._asynchronous and message.from_ >= LOCAL_APPLY_THREAD:
                r.step(message)
                return
            if kind not in _REQUESTS:
                raise StepLocalMsgError(f"a message of type {kind} at term {message.term} can't come from a peer")
        if message.to != r.id:
            raise StepPeerNotFoundError(f"a message for node {message.to} reached node {r.id}")
        if message.from_ in (NONE, r.id) and kind not in _PASSED_ON and not self._is_own_promise(message):
            raise StepLocalMsgError(f"a message of type {kind} from node {message.from_} can't come from a peer")
        if kind in _ANSWERS and message.from_ not in r.tracker.progress:
            raise StepPeerNotFoundError(f"node {message.from_} answered, but it isn't in the configuration")
        r.step(message)

    def _is_own_promise(self, message: Message) -> bool:
        """Whether the append thread delivers a promise of this node to itself. What it promises itself it never refuses."""
        return self._asynchronous and message.type in _PROMISES and message.from_ != NONE and not message.reject

    def transfer_leadership(self, transferee: int) -> None:
        """Asks the leader to hand over to this node; also from a follower, which passes the request on.

        The leader refuses proposals until the other has taken over, for an election timeout at most.
        """
        self.raft.step(Message(MSG_TRANSFER_LEADER, from_=transferee))

    def forget_leader(self) -> None:
        """A follower no longer follows anybody: it may vote at once, without campaigning itself.

        For a driver that knows better than the timeout that the leader is gone. Ignored with lease reads, which count
        on this node not to vote.
        """
        self.raft.step(Message(MSG_FORGET_LEADER))

    def report_unreachable(self, node_id: int) -> None:
        """Messages to this node were dropped. Call it for each loss that is known, not for each message."""
        self.raft.step(Message(MSG_UNREACHABLE, from_=node_id))

    def report_snapshot(self, node_id: int, status: SnapshotStatus) -> None:
        """The transfer of a snapshot to this node has ended: SNAPSHOT_FINISH or SNAPSHOT_FAILURE."""
        self.raft.step(Message(MSG_SNAP_STATUS, from_=node_id, reject=status == SNAPSHOT_FAILURE))

    # Out.

    def has_ready(self) -> bool:
        """Whether `ready` would have anything in it. O(1)."""
        r = self.raft
        log = r.log
        unstable = log.unstable
        if r.messages or r.messages_after_append or r.read_states:
            return True
        return (
            (bool(unstable.entries) and unstable.has_next_entries())
            or unstable.next_snapshot() is not None
            or (log.applying < log.committed and log.has_next_committed_entries(not self._asynchronous))
            or self._hard_state_changed()
            or (r.lead, r.state) != self._previous_soft
        )

    def ready(self) -> Ready:
        """Takes out all that is to be done. Must be followed by `advance` before the next one, unless storage writes
        are asynchronous. O(size of the Ready)."""
        if self._handed_out is not None:
            raise RaftPanic("ready() was called again before advance()")
        r = self.raft
        log = r.log
        soft = (r.lead, r.state)
        hard_state = r.hard_state() if self._hard_state_changed() else None
        entries = log.unstable.next_entries()
        committed, payload_bytes = log.next_committed_and_size(not self._asynchronous)
        snapshot = log.unstable.next_snapshot()
        before = self._previous_hard_state
        ready = Ready(
            None if soft == self._previous_soft else SoftState(*soft),
            hard_state,
            r.read_states,
            entries,
            snapshot,
            committed,
            r.messages,
            bool(entries) if hard_state is None else must_sync(hard_state, before, len(entries)),
        )
        if self._asynchronous:
            self._hand_to_threads(ready)
        else:
            own = self._promises(ready) if r.messages_after_append else []
            stored = append_response(r, snapshot) if log.unstable.entries or snapshot is not None else None
            self._handed_out = _HandedOut(own, stored, committed, payload_bytes)
        self._previous_soft = soft
        self._previous_hard_state = hard_state or self._previous_hard_state
        r.messages, r.messages_after_append, r.read_states = [], [], []
        log.unstable.accept_in_progress()
        if committed:
            log.accept_applying(
                committed[-1].index, payload_bytes + 17 * len(committed), allow_unstable=not self._asynchronous
            )
        return ready

    def _hard_state_changed(self) -> bool:
        """Whether the hard state isn't that of the last Ready; without making one, for this is asked at every turn."""
        r, before = self.raft, self._previous_hard_state
        return r.log.committed != before.commit or r.term != before.term or r.vote != before.vote

    def _promises(self, ready: Ready) -> list[Message]:
        """Adds those to others to the Ready's messages, to be sent when it is written; gives back this node's own."""
        own: list[Message] = []
        for message in self.raft.messages_after_append:
            (own if message.to == self.raft.id else ready.messages).append(message)
        return own

    def _hand_to_threads(self, ready: Ready) -> None:
        """The Ready's writes and applications as messages (storage_writes.py)."""
        append = append_message(self.raft, ready.entries, ready.hard_state, ready.snapshot)
        if append is not None:
            ready.messages.append(append)
        if ready.committed_entries:
            ready.messages.append(apply_message(self.raft, ready.committed_entries))

    def advance(self) -> None:
        """The last Ready is durable, its messages are sent, and its committed entries are applied."""
        if self._asynchronous:
            raise RaftPanic("advance() was called, but with async_storage_writes the responses say what is done")
        if self._handed_out is None:
            raise RaftPanic("advance() was called without a ready()")
        handed_out, self._handed_out = self._handed_out, None
        for message in handed_out.own:
            self.raft.step(message)
        if handed_out.stored is not None:
            self.raft.step(handed_out.stored)
        if handed_out.applied:
            self.raft.entries_applied(handed_out.applied, handed_out.payload_bytes)

    def status(self) -> Status:
        """A copy of what the node knows of itself and, if it leads, of the others."""
        return get_status(self.raft)

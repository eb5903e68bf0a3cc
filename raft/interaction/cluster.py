"""The nodes of a script, and the messages between them: nothing moves but what a command moves.

    node 1: RawNode ── ready ──► storage (log, hard state) ──► history (what was applied: a snapshot after each entry)
                          └────► messages ──► in flight, in the order in which they were sent ──► deliver ──► node 2

With asynchronous storage writes the write and the application of a Ready are work that waits, in order, for
process_append_thread and process_apply_thread; their responses are messages in flight like all others.

The state machine appends the data of each entry to what it has. After every entry there is a snapshot of it, and the
newest one is what a leader sends, so a script needs no command for making snapshots.

Follows etcd-io/raft: rafttest/.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from raft.config import Config
from raft.describe import describe_entries, describe_message, describe_progress, describe_ready
from raft.errors import (
    CompactedError,
    ProposalDroppedError,
    RaftError,
    SnapshotOutOfDateError,
    SnapshotTemporarilyUnavailableError,
    StepLocalMsgError,
    StepPeerNotFoundError,
    UnavailableError,
)
from raft.interaction.output import Output
from raft.kinds import EntryType, MessageType, StateType
from raft.raftpb import ConfChange, ConfChangeV2, Entry, HardState, Message, Snapshot, SnapshotMetadata
from raft.rawnode import RawNode
from raft.storage import MemoryStorage
from raft.util import LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, NO_LIMIT

__all__ = ["Cluster", "Node", "Recipient", "error_text"]

_THREADS = (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD)

# etcd's words for the errors whose sentence here says more than a script should depend on.
_ERROR_TEXTS: dict[type[Exception], str] = {
    CompactedError: "requested index is unavailable due to compaction",
    ProposalDroppedError: "raft proposal dropped",
    SnapshotOutOfDateError: "requested index is older than the existing snapshot",
    SnapshotTemporarilyUnavailableError: "snapshot is temporarily unavailable",
    StepLocalMsgError: "raft: cannot step raft local message",
    StepPeerNotFoundError: "raft: cannot step as peer not found",
    UnavailableError: "requested entry at index is unavailable",
}


def error_text(error: Exception) -> str:
    """The error as a script prints it."""
    return _ERROR_TEXTS.get(type(error), str(error))


class ScriptStorage(MemoryStorage):
    """A storage whose snapshot is always the newest of the node's history."""

    __slots__ = ("history",)

    def __init__(self, history: list[Snapshot]) -> None:
        super().__init__()
        self.history = history

    def snapshot(self) -> Snapshot:
        return self.history[-1]


@dataclass(slots=True)
class Node:
    """One node with its disk. history: the state machine's snapshot after each entry that was applied."""

    raw_node: RawNode
    storage: ScriptStorage
    config: Config
    history: list[Snapshot]
    append_work: list[Message] = field(default_factory=list)
    apply_work: list[Message] = field(default_factory=list)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        """Writes what a Ready says. Raises `SnapshotOutOfDateError`."""
        if hard_state is not None and not hard_state.is_empty():
            self.storage.set_hard_state(hard_state)
        if snapshot is not None and not snapshot.is_empty():
            if entries:
                raise ValueError("can't apply snapshot and entries at the same time")
            self.storage.apply_snapshot(snapshot)
        else:
            self.storage.append(entries)

    def apply(self, entries: Sequence[Entry]) -> None:
        """Hands committed entries to the state machine, and membership changes to the node."""
        for entry in entries:
            last = self.history[-1]
            update, conf_state = entry.data, last.metadata.conf_state
            if entry.type != EntryType.NORMAL:
                decoder = ConfChange.decode if entry.type == EntryType.CONF_CHANGE else ConfChangeV2.decode
                change = decoder(entry.data)
                update, conf_state = change.context, self.raw_node.apply_conf_change(change)
            metadata = SnapshotMetadata(entry.index, entry.term, conf_state)
            self.history.append(Snapshot(metadata, last.data + update))


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whose messages to deliver, or to drop."""

    id: int
    drop: bool = False


class Cluster:
    """All nodes of a script by number (1, 2, …), the messages in flight, and the output."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.output = Output()
        self.nodes: dict[int, Node] = {}
        self.messages: list[Message] = []

    def add_nodes(self, count: int, config: Config, snapshot: Snapshot) -> None:
        """Adds nodes that start with this snapshot, or with nothing if it is empty and has no configuration."""
        starts_with_state = snapshot != Snapshot()
        if starts_with_state:
            if snapshot.metadata.index <= 1:
                raise ValueError("index must be specified as > 1 due to bootstrap")
            snapshot = replace(snapshot, metadata=replace(snapshot.metadata, term=1))
        for _ in range(count):
            node_id = len(self.nodes) + 1
            history = [snapshot]
            storage = ScriptStorage(history)
            if starts_with_state:
                storage.apply_snapshot(snapshot)
            own = replace(config, id=node_id, storage=storage, logger=self.output)
            self.nodes[node_id] = Node(RawNode(own), storage, own, history)

    def restart(self, node_id: int) -> None:
        """The node crashes and starts again with what was written and applied; what it had not written is lost.

        Messages that it has sent are still under way.
        """
        node = self.nodes[node_id]
        config = replace(node.config, applied=node.history[-1].metadata.index)
        self.nodes[node_id] = Node(RawNode(config), node.storage, config, node.history)

    # Messages.

    def waiting_for(self, node_id: int, kind: MessageType | None = None, drop: bool = False) -> list[Message]:
        """The messages in flight to a node. Those between a node and its own threads can't be dropped."""
        return [
            message
            for message in self.messages
            if message.to == node_id
            and (kind is None or message.type == kind)
            and not (drop and (message.from_ == message.to or message.from_ in _THREADS))
        ]

    def deliver(self, kind: MessageType | None, recipients: Sequence[Recipient]) -> int:
        """Delivers or drops what is in flight to each recipient; returns how many messages that were."""
        count = 0
        for recipient in recipients:
            chosen = self.waiting_for(recipient.id, kind, recipient.drop)
            taken = set(map(id, chosen))
            self.messages = [message for message in self.messages if id(message) not in taken]
            count += len(chosen)
            for message in chosen:
                self.output.write(("dropped: " if recipient.drop else "") + describe_message(message) + "\n")
                if recipient.drop:
                    self.drop(message)
                else:
                    self.hand_over(message)
        return count

    def hand_over(self, message: Message) -> None:
        """A message in flight reaches its node, whose refusal is printed."""
        try:
            self.nodes[message.to].raw_node.step(message)
        except RaftError as error:
            self.output.write(error_text(error) + "\n")

    def drop(self, message: Message) -> None:
        """A message in flight is lost."""

    def send_snapshot(self, sender: int, receiver: int) -> None:
        """Puts a MsgSnap in flight that its sender's RawNode knows nothing of."""
        node = self.nodes[sender]
        snapshot = node.storage.snapshot()
        message = Message(MessageType.SNAP, receiver, sender, node.raw_node.term, snapshot=snapshot)
        self.messages.append(message)
        self.output.write(describe_message(message))

    # Readies.

    def process_ready(self, node_id: int) -> None:
        """Prints the node's Ready and does what it says; with asynchronous writes, the writes wait for their thread."""
        node = self.nodes[node_id]
        ready = node.raw_node.ready()
        self.output.write(describe_ready(ready))
        synchronous = not node.config.async_storage_writes
        if synchronous:
            node.append(ready.hard_state, ready.entries, ready.snapshot)
            node.apply(ready.committed_entries)
        for message in ready.messages:
            if message.to == LOCAL_APPEND_THREAD:
                node.append_work.append(message)
            elif message.to == LOCAL_APPLY_THREAD:
                node.apply_work.append(message)
            else:
                self.messages.append(message)
        if synchronous:
            node.raw_node.advance()

    def process_append_thread(self, node_id: int) -> None:
        """Does the first of the writes that wait."""
        node = self.nodes[node_id]
        if not node.append_work:
            self.output.write("no append work to perform")
            return
        work = self._begin(node.append_work.pop(0))
        node.append(HardState(work.term, work.vote, work.commit), work.entries, work.snapshot)
        self._respond(work)

    def process_apply_thread(self, node_id: int) -> None:
        """Applies the first of the batches that wait."""
        node = self.nodes[node_id]
        if not node.apply_work:
            self.output.write("no apply work to perform")
            return
        work = self._begin(node.apply_work.pop(0))
        node.apply(work.entries)
        self._respond(work)

    def _begin(self, work: Message) -> Message:
        self.output.write(f"Processing:\n{describe_message(replace(work, responses=[]))}\n")
        return work

    def _respond(self, work: Message) -> None:
        self.output.write("Responses:\n" + "".join(describe_message(response) + "\n" for response in work.responses))
        self.messages.extend(work.responses)

    def stabilize(self, ids: Sequence[int]) -> None:
        """Lets these nodes, or all, do whatever they can until nothing moves any more.

        In rounds: every Ready, every delivery, every write, every application; in each of them by node number.
        """
        moved = True
        while moved:
            moved = False
            chosen = ids or list(self.nodes)
            for node_id in chosen:
                if self.nodes[node_id].raw_node.has_ready():
                    self.output.write(f"> {node_id} handling Ready\n")
                    with self.output.indented():
                        self.process_ready(node_id)
                    moved = True
            for node_id in chosen:
                if self.waiting_for(node_id):
                    self.output.write(f"> {node_id} receiving messages\n")
                    with self.output.indented():
                        self.deliver(None, [Recipient(node_id)])
                    moved = True
            for node_id in chosen:
                moved |= self._drain(node_id, "append")
            for node_id in chosen:
                moved |= self._drain(node_id, "apply")

    def _drain(self, node_id: int, thread: str) -> bool:
        node = self.nodes[node_id]
        queue, step = {
            "append": (node.append_work, self.process_append_thread),
            "apply": (node.apply_work, self.process_apply_thread),
        }[thread]
        if not queue:
            return False
        self.output.write(f"> {node_id} processing {thread} thread\n")
        while queue:
            with self.output.indented():
                step(node_id)
        return True

    # What a script looks at.

    def raft_state(self) -> None:
        """One line for each node: role, term, leader."""
        for node_id, node in self.nodes.items():
            raw_node = node.raw_node
            voter = "Voter" if node_id in raw_node.raft.tracker.voters.ids() else "Non-Voter"
            self.output.write(f"{node_id}: {raw_node.role} ({voter}) Term:{raw_node.term} Lead:{raw_node.lead}\n")

    def raft_log(self, node_id: int) -> None:
        """The entries that are on this node's disk."""
        storage = self.nodes[node_id].storage
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self.output.write(f"log is empty: first index={first}, last index={last}")
        else:
            self.output.write(describe_entries(storage.entries(first, last + 1, NO_LIMIT)))

    def status(self, node_id: int) -> None:
        """What this node, if it leads, knows of the others."""
        raft = self.nodes[node_id].raw_node.raft
        if raft.state == StateType.LEADER:
            self.output.write(describe_progress(raft.tracker.progress))

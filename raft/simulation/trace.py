"""What a run looked like: the lines that a person reads, and the arrows of a diagram.

A trace is told of each event by the cluster, and never asks it for anything, so a run is the same with a trace and
without. Every line has its time in thousandths of a tick.

      1504  node 2       received from 1   MsgApp after 7/2: 1 entry, commit 7
      1504  node 2       follower at term 2, commit 7, log 7/2 to 8/2
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raft.kinds import MessageType, StateType
from raft.raftpb import Entry, HardState, Message, Snapshot
from raft.simulation.disk import Record
from raft.simulation.peer import Peer
from raft.simulation.plan import Step

__all__ = ["Arrow", "Note", "Trace", "describe"]


class Arrow(NamedTuple):
    """A message: when and by whom it was sent, when it arrived (or was lost), and what it said."""

    sent: int
    ended: int
    source: int
    target: int
    text: str
    lost: bool


class Note(NamedTuple):
    """What happened on one node."""

    at: int
    node: int
    text: str


@dataclass
class Trace:
    """lines: the run as text. notes and arrows: the same for a diagram, in the order in which they ended."""

    lines: list[str] = field(default_factory=list)
    drawn: list[Arrow | Note] = field(default_factory=list)
    under_way: dict[int, tuple[int, Message]] = field(default_factory=dict)
    looks: dict[int, str] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)

    def say(self, at: int, node: int, text: str) -> None:
        """One line of text."""
        self.ids.add(node)
        self.lines.append(f"{at:>10}  node {node:<3} {text}")

    def _note(self, at: int, node: int, text: str) -> None:
        self.say(at, node, text)
        self.drawn.append(Note(at, node, text))

    def begins(self, at: int, handler: str) -> None:
        """The cluster begins to handle an event: `handler` is its name. What follows belongs to it. For the film only."""

    def cut(self, at: int, links: Collection[tuple[int, int]]) -> None:
        """From here on these links (from, to) are cut, and no others. For the film only."""

    def started(self, at: int, peer: Peer) -> None:
        """A node has started, from what its disk has."""
        self._note(at, peer.id, f"starts: {_look(peer)}")
        self.looks[peer.id] = _look(peer)

    def crashed(self, at: int, peer: Peer) -> None:
        """A node has crashed; a part of an unsynced write may have survived."""
        self._note(at, peer.id, f"crashes, keeps {len(peer.disk.records)} records")

    def step(self, at: int, peer: Peer, step: Step) -> None:
        """A step of the plan is carried out on a node."""
        self._note(at, peer.id, f"{step.kind.value}: value {step.value}, span {step.span}")

    def sent(self, at: int, message: Message) -> None:
        """A message leaves its node. A repeated one does so twice, as two objects."""
        self.under_way[id(message)] = (at, message)
        self.say(at, message.from_, f"sends to {message.to:<8} {describe(message)}")

    def lost(self, at: int, message: Message) -> None:
        """A message will never arrive."""
        self._end(at, message, lost=True)
        self.say(at, message.to, f"never gets from {message.from_:<3} {describe(message)}")

    def received(self, at: int, message: Message) -> None:
        """A message has arrived."""
        self._end(at, message, lost=False)
        self.say(at, message.to, f"received from {message.from_:<3} {describe(message)}")

    def _end(self, at: int, message: Message, lost: bool) -> None:
        sent, _ = self.under_way.get(id(message), (at, message))
        self.drawn.append(Arrow(sent, at, message.from_, message.to, describe(message), lost))

    def took(self, at: int, peer: Peer, records: Sequence[Record], sync: bool) -> None:
        """A driver has taken a Ready, and these records are to be written."""
        entries = [record for record in records if isinstance(record, Entry)]
        parts = [f"entries {entries[0].index} to {entries[-1].index}"] if entries else []
        for record in records:
            if isinstance(record, Snapshot):
                parts.append(f"the snapshot at {record.metadata.index}")
            elif isinstance(record, HardState):
                parts.append(f"term {record.term}, vote {record.vote}, commit {record.commit}")
        if parts:
            self.say(at, peer.id, f"writes {', '.join(parts)}{' and syncs' if sync else ''}")

    def looked_at(self, at: int, peer: Peer) -> None:
        """After an event: says what the node is now, if that is something new."""
        look = _look(peer)
        if look != self.looks.get(peer.id):
            before = self.looks.get(peer.id, "").partition(",")[0]
            self.looks[peer.id] = look
            self.say(at, peer.id, look)
            role = look.partition(",")[0]
            if role != before:
                self.drawn.append(Note(at, peer.id, role))


def _look(peer: Peer) -> str:
    node, log = peer.node, peer.node.raft.log
    role = StateType(node.role).name.lower().replace("_", "-")
    last = log.last_index()
    return f"{role} at term {node.term}, commit {node.commit_index}, log ends {last}/{log.term(last)}"


def describe(message: Message) -> str:
    """A message in one line: its type, term, and what of the rest means something."""
    m = message
    text = f"{MessageType(m.type)} term {m.term}"
    if m.type == MessageType.APP:
        text += f" after {m.index}/{m.log_term}: {len(m.entries)} entries, commit {m.commit}"
    elif m.type == MessageType.SNAP and m.snapshot is not None:
        text += f" at {m.snapshot.metadata.index}/{m.snapshot.metadata.term}"
    elif m.type == MessageType.HEARTBEAT:
        text += f" commit {m.commit}"
    elif m.type == MessageType.PROP:
        text += f": {len(m.entries)} entries"
    elif m.index:
        text += f" {m.index}/{m.log_term}" if m.log_term else f" {m.index}"
    if m.reject:
        text += f" rejected, hint {m.reject_hint}"
    return text

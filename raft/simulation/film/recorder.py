"""A run as a film is recorded: moments, the messages between them, and what each node was.

    moment    one event that the cluster handled: an arrival, a tick, the end of a write, a step of the plan
              its lines are those of the text trace, word for word; with it, what changed on which node, and who acted
    message   from when it was sent (which moment) to when it arrived or was lost

A moment in which nothing is said and nothing changes is none: most ticks.

Invariants:

1. The lines of all moments, one after the other, are `Trace.lines`.
2. The states of a moment are those before it with its changes; every node's first state is in its `starts` moment.
3. A message's number counts from 1 in the order of sending: the number that `--drop` takes (cluster.py counts alike).

What a node is: role, term, vote, leader, commit and applied index, its log (the terms as runs: entries 4 to 9 are of term
2), what of it is on disk, its snapshot, whom it counts as members, and what a candidate or leader knows of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raft.kinds import EntryType, MessageType, StateType
from raft.raftpb import Entry, Message
from raft.simulation.disk import Record
from raft.simulation.film.acting import Acting
from raft.simulation.peer import Peer
from raft.simulation.plan import Kind, Step
from raft.simulation.trace import Trace, describe

__all__ = ["DROPPED", "LOST", "RECEIVED", "UNDER_WAY", "Film", "Moment", "Sent"]

UNDER_WAY, RECEIVED, LOST, DROPPED = range(4)
DATA_MAX = 24

# handler of the cluster → what began the moment; those that aren't here are told by what they do first
_KINDS = {
    "_tick": "tick", "_write": "disk", "_finish": "disk", "_append": "disk", "_apply": "applies", "_take": "writes",
    "_heal": "healed", "end_faults": "calm", "converge": "operator", "_ask": "asks", "_asked": "asked",
}  # fmt: skip
_ROLES = {role: role.name.lower().replace("_", "-") for role in StateType}
_LASTING = {Kind.PAUSE: "paused", Kind.SLOW_DISK: "slow"}


@dataclass(slots=True)
class Moment:
    """at: when. kind: what began it. node: on which; 0 is none. step: its position in the plan, or -1.
    changes: node → what is new of its state. cut: the links that are cut from here on. calls, changed: who acted (acting.py)."""

    at: int
    kind: str
    node: int = 0
    step: int = -1
    lines: list[tuple[int, str]] = field(default_factory=list)
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    cut: list[tuple[int, int]] | None = None
    calls: tuple[tuple[int, int], ...] = ()
    changed: tuple[tuple[int, int, str], ...] = ()


@dataclass(slots=True)
class Sent:
    """A message: when and in which moment it was sent, when and in which it ended, and how."""

    source: int
    target: int
    kind: str
    text: str
    at: int
    moment: int
    ended_at: int = -1
    ended: int = -1
    how: int = UNDER_WAY


@dataclass
class Film(Trace):
    """A trace that records all that the page shows. steps: where in the plan each step stands, if not all are played."""

    steps: Mapping[Step, int] = field(default_factory=dict)
    dropped: Collection[int] = ()
    moments: list[Moment] = field(default_factory=list)
    messages: list[Sent] = field(default_factory=list)
    entries: dict[tuple[int, int], str] = field(default_factory=dict)
    functions: dict[Any, int] = field(default_factory=dict)
    peers: dict[int, Peer] = field(default_factory=dict)
    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    acting: Acting = field(default_factory=Acting)
    current: Moment = field(default_factory=lambda: Moment(0, ""))
    numbers: dict[int, int] = field(default_factory=dict)

    # Moments.

    def begins(self, at: int, handler: str) -> None:
        """Ends the moment before, and begins one."""
        self.end()
        self.current = Moment(at, _KINDS.get(handler, ""))

    def end(self) -> None:
        """The last moment is over; it counts if anything happened in it."""
        moment = self.current
        calls, changed = self.acting.take()
        if moment.lines or moment.changes or moment.cut is not None:
            numbers = self.functions
            moment.calls = tuple((depth, numbers.setdefault(code, len(numbers))) for depth, code in calls)
            moment.changed = tuple((numbers.setdefault(c.code, len(numbers)), c.line, c.field) for c in changed)
            if not moment.node:
                moment.node = moment.lines[0][0] if moment.lines else next(iter(moment.changes), 0)
            self.moments.append(moment)
        self.current = Moment(moment.at, "")

    def _begin(self, node: int, kind: str) -> None:
        self.current.node = self.current.node or node
        self.current.kind = self.current.kind or kind

    def say(self, at: int, node: int, text: str) -> None:
        super().say(at, node, text)
        self.current.at = at
        self.current.lines.append((node, text))

    # What the cluster tells.

    def cut(self, at: int, links: Collection[tuple[int, int]]) -> None:
        self.current.cut = sorted(links)
        self._begin(self.current.node, "cut" if links else "healed")

    def started(self, at: int, peer: Peer) -> None:
        self._begin(peer.id, "starts")
        super().started(at, peer)
        self.peers[peer.id] = peer
        self.acting.watch(peer.node)
        self._look(peer, up=True, paused=0, slow=0)

    def crashed(self, at: int, peer: Peer) -> None:
        self._begin(peer.id, "crash")
        self.current.node = peer.id  # half of the crashes hit another node than the step says
        super().crashed(at, peer)
        self._look(peer, up=False)

    def step(self, at: int, peer: Peer, step: Step) -> None:
        self._begin(peer.id, step.kind.value)
        self.current.step = self.steps.get(step, -1)
        super().step(at, peer, step)
        if step.kind in _LASTING:
            self._look(peer, **{_LASTING[step.kind]: at + step.span})

    def sent(self, at: int, message: Message) -> None:
        super().sent(at, message)
        self.messages.append(
            Sent(message.from_, message.to, str(MessageType(message.type)), describe(message), at, len(self.moments))
        )
        self.numbers[id(message)] = len(self.messages)

    def lost(self, at: int, message: Message) -> None:
        number = self.numbers.get(id(message), 0)
        self._begin(message.to, "lost")
        super().lost(at, message)
        self._arrive(at, message, DROPPED if number in self.dropped else LOST)

    def received(self, at: int, message: Message) -> None:
        self._begin(message.to, "receives")
        super().received(at, message)
        self._arrive(at, message, RECEIVED)

    def _arrive(self, at: int, message: Message, how: int) -> None:
        number = self.numbers.get(id(message), 0)
        if number:
            sent = self.messages[number - 1]
            sent.ended_at, sent.ended, sent.how = at, len(self.moments), how

    def took(self, at: int, peer: Peer, records: Sequence[Record], sync: bool) -> None:
        self._begin(peer.id, "writes")
        super().took(at, peer, records, sync)
        self._look(peer)

    def looked_at(self, at: int, peer: Peer) -> None:
        super().looked_at(at, peer)
        self._look(peer)

    def ends(self, violation: str = "") -> None:
        """The run is over. With a violation its last moment is the one in which it was seen."""
        if violation:
            self.current.kind = self.current.kind or "broken"
            for peer in self.peers.values():
                self._look(peer)
            if not (self.current.lines or self.current.changes) and self.moments:
                return  # nothing happened since: the last moment shows it
        self.end()

    # What a node is.

    def _look(self, peer: Peer, **also: Any) -> None:
        before = self.states.get(peer.id, {})
        now = {**before, **also}
        if also.get("up", before.get("up", True)):
            now |= self._state(peer, before)
        else:
            now |= {"disk": peer.storage.last_index()}
        changes = {name: value for name, value in now.items() if before.get(name) != value}
        if changes:
            self.states[peer.id] = now
            self.current.changes.setdefault(peer.id, {}).update(changes)

    def _state(self, peer: Peer, before: Mapping[str, Any]) -> dict[str, Any]:
        raft = peer.node.raft
        log, members = raft.log, raft.tracker.conf_state()
        first, last = log.first_index(), log.last_index()
        ends = (first, last, log.term(last))
        state = {
            "role": _ROLES[StateType(raft.state)],
            "term": raft.term,
            "vote": raft.vote,
            "lead": raft.lead,
            "commit": log.committed,
            "applied": peer.application.index,
            "disk": peer.storage.last_index(),
            "snapshot": peer.storage.snapshot().metadata.index,
            "voters": list(members.voters),
            "outgoing": list(members.voters_outgoing),
            "learners": list(members.learners),
            "ends": ends,
        }
        if ends != before.get("ends"):
            state["log"] = [first, last, self._runs(peer, first, last)]
        leads = raft.state == StateType.LEADER
        state["progress"] = (
            {node: [pr.match, pr.next] for node, pr in raft.tracker.progress.items() if node != raft.id}
            if leads
            else {}
        )
        campaigns = raft.state in (StateType.CANDIDATE, StateType.PRE_CANDIDATE)
        state["votes"] = dict(raft.tracker.votes) if campaigns else {}
        return state

    def _runs(self, peer: Peer, first: int, last: int) -> list[list[int]]:
        """Where each term begins in a log: [[index, term], …]; and what its entries say is noted."""
        log = peer.node.raft.log
        runs: list[list[int]] = []
        for index in range(first, last + 1):
            term = log.term(index)
            if not runs or runs[-1][1] != term:
                runs.append([index, term])
            if (index, term) not in self.entries:
                self.entries[index, term] = _told(log.slice(index, index + 1, 0)[0])
        return runs


def _told(entry: Entry) -> str:
    if entry.type != EntryType.NORMAL:
        return "a change of the members"
    if not entry.data:
        return "empty: a new leader's"
    return entry.data[:DATA_MAX].decode("ascii", "backslashreplace")

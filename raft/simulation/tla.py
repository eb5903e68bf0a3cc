"""A run as etcd's trace validation wants it: one JSON object for each event of a node, one on each line.

etcd's TLA+ specification is checked against real runs by replaying such a file (tla/Traceetcdraft.tla, with TLC). The
names of the events and of their fields are those of etcd-io/raft's state_trace.go:

    InitState BecomeCandidate BecomeFollower BecomeLeader Commit Replicate ChangeConf ApplyConfChange Ready
    SendAppendEntriesRequest  ReceiveAppendEntriesRequest   and Response, and the same for RequestVote

A node's calls of its own `step`, `send` and `become_…` are the events. They are watched in a subclass of `Raft`, so that
the library has no line for it.

What the specification doesn't know isn't in the trace: pre-votes, reads, proposals on their way, crashes (a node that
starts again shows as another InitState).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raft.kinds import EntryType, MessageType, StateType
from raft.raft import Raft
from raft.raftpb import ConfChange, Message
from raft.simulation.disk import Record
from raft.simulation.peer import Peer
from raft.simulation.trace import Trace
from raft.state import STATE_LEADER

__all__ = ["StateTrace", "to_ndjson"]

_ACTIONS = {0: "AddNewServer", 1: "RemoveServer", 3: "AddLearner"}
_NAMES = {
    MessageType.APP: "AppendEntriesRequest",
    MessageType.HEARTBEAT: "AppendEntriesRequest",
    MessageType.SNAP: "AppendEntriesRequest",
    MessageType.APP_RESP: "AppendEntriesResponse",
    MessageType.HEARTBEAT_RESP: "AppendEntriesResponse",
    MessageType.VOTE: "RequestVoteRequest",
    MessageType.VOTE_RESP: "RequestVoteResponse",
}


@dataclass
class StateTrace(Trace):
    """A trace that also collects the events."""

    events: list[dict[str, Any]] = field(default_factory=list)
    now: int = 0
    seen: dict[int, tuple[int, int]] = field(default_factory=dict)  # commit index and last index, by node

    def started(self, at: int, peer: Peer) -> None:
        """From here on every call of the node's Raft is watched."""
        super().started(at, peer)
        self.now = at
        r = peer.node.raft
        r.__class__ = _watched(self)
        self.seen[r.id] = (r.log.committed, r.log.last_index())
        self.event("InitState", r)
        self.event("ApplyConfChange", r, prop={"cc": {"newconf": _ids(r)[0]}})
        self.event("BecomeFollower", r)

    def received(self, at: int, message: Message) -> None:
        """The clock of the events."""
        super().received(at, message)
        self.now = at

    def took(self, at: int, peer: Peer, records: Sequence[Record], sync: bool) -> None:
        """A Ready is an event of its own."""
        super().took(at, peer, records, sync)
        self.now = at
        self.event("Ready", peer.node.raft)

    def event(self, name: str, r: Raft, **more: Any) -> None:
        """Adds one event, with the node's state at this moment."""
        last = self.seen[r.id][1]
        state = {"term": r.term, "vote": str(r.vote), "commit": r.log.committed}
        event = {"name": name, "nid": str(r.id), "state": state, "role": str(StateType(r.state)), "log": last}
        self.events.append({"tag": "trace", "at": self.now, "event": {**event, "conf": _ids(r), **more}})

    def catch_up(self, r: Raft) -> None:
        """Events that are no call: entries that a leader has appended, and a commit index that has risen."""
        commit, last = self.seen[r.id]
        end = r.log.last_index()
        if r.state == STATE_LEADER:
            for index in range(last + 1, end + 1):
                [entry] = r.log.slice(index, index + 1, 0)
                if entry.type == EntryType.NORMAL:
                    self.event("Replicate", r)
                elif entry.type == EntryType.CONF_CHANGE:
                    change = ConfChange.decode(entry.data)
                    single = {"nid": str(change.node_id), "action": _ACTIONS.get(change.type, "")}
                    self.event("ChangeConf", r, prop={"cc": {"changes": [single]}})
                self.seen[r.id] = (commit, index)
        self.seen[r.id] = (r.log.committed, end)
        if r.log.committed != commit and r.state == STATE_LEADER:
            self.event("Commit", r)


def _watched(trace: StateTrace) -> type[Raft]:
    class Watched(Raft):
        """Tells the trace of each call before or after it is carried out, as state_trace.go does."""

        __slots__ = ()

        def step(self, message: Message) -> None:
            if message.type in _NAMES:
                trace.event(f"Receive{_NAMES[message.type]}", self, msg=_fields(message))
            super().step(message)
            trace.catch_up(self)

        def send(self, message: Message) -> None:
            trace.catch_up(self)
            super().send(message)
            if message.type in _NAMES:
                trace.event(f"Send{_NAMES[message.type]}", self, msg=_fields(message))

        def become_follower(self, term: int, lead: int) -> None:
            super().become_follower(term, lead)
            trace.event("BecomeFollower", self)

        def become_candidate(self) -> None:
            super().become_candidate()
            trace.event("BecomeCandidate", self)

        def become_leader(self) -> None:
            super().become_leader()
            trace.event("BecomeLeader", self)

        def set_configuration(self, *arguments: Any) -> None:
            super().set_configuration(*arguments)
            trace.event("ApplyConfChange", self, prop={"cc": {"newconf": _ids(self)[0]}})

    return Watched


def _ids(r: Raft) -> list[list[str]]:
    voters = r.tracker.voters
    return [[str(node_id) for node_id in half.ids] for half in (voters.incoming, voters.outgoing)]


def _fields(m: Message) -> dict[str, Any]:
    index, log_term, entries = m.index, m.log_term, len(m.entries)
    if m.snapshot is not None:
        index, log_term, entries = 0, 0, m.snapshot.metadata.index
    return {
        "type": str(MessageType(m.type)),
        "term": m.term,
        "from": str(m.from_),
        "to": str(m.to),
        "entries": entries,
        "logTerm": log_term,
        "index": index,
        "commit": m.commit,
        "vote": str(m.vote),
        "reject": m.reject,
        "rejectHint": m.reject_hint,
    }


def to_ndjson(trace: StateTrace) -> str:
    """The events, one on each line."""
    return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in trace.events)

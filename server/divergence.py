"""The alarm for a node that has applied something else than the others: it stops, and its directory says why.

    each node, every REPORT_EVERY ticks ──▶ its latest digests, each with its index ──▶ every other node
    each node ◀── what the others report ── is compared at equal indexes with its own digests (server/digest.py)

    at one index    mine   node 2   node 3
                    a      a        b        node 3 is one of less than half: it stops; I say so
                    b      a        a        I stop
                    a      b        (away)   nobody can tell yet: PATIENCE ticks later, the one that doesn't lead stops

A report is a message between nodes as Raft's are, of a type that Raft has for itself and never sends:

    for each point, the newest last    8 begin    8 index    4 digest

Invariants:

1. A node stops only by its own comparison, and only if the others' digests differ from its own at one and the same entry.
2. If more than half of the voters have one digest there, those stop that have another. If that can't be told (two nodes, a
   third one away for long, three opinions), the leader stays and the node that differs from it stops: one of the two is
   wrong, and the sentence says that it is unknown which.
3. What stops is condemned (server/directory.py), so that it doesn't come back with what it has.
4. What is kept of each node is bounded.

A digest says nothing about an engine that was changed without an entry: that is for `metcd check --cluster`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from raft.raftpb import ConfState, Message
from server.digest import Point, RunningDigest
from server.guards import REPORT, REPORT_BYTES_MAX, REPORT_POINT_BYTES
from server.logs import Minutely, logger
from server.metrics import Metrics, describe

__all__ = ["PATIENCE", "REPORT_EVERY", "Diverged", "DivergenceAlarm"]

REPORT_EVERY = 10  # ticks
PATIENCE = 100  # ticks, for the voters that would make a majority: longer than a restart takes
POINTS_KEPT = 64  # of each node
POINTS_SENT = REPORT_BYTES_MAX // REPORT_POINT_BYTES

_POINT = struct.Struct("<QQI")

describe(
    {
        "divergence_reports_total": "Reports of other nodes about what they have applied.",
        "divergence_found_total": "Times that what another node has applied was found to differ from what this one has.",
    }
)


class Diverged(Exception):
    """This node has applied something else than the others: it must stop, and never come back with what it has."""


class Machine(Protocol):
    """The part of the state machine that is asked here."""

    @property
    def digest(self) -> RunningDigest: ...
    @property
    def conf_state(self) -> ConfState | None: ...


class Leading(Protocol):
    """The part of a RawNode that is asked here: who leads (0: unknown), and in which term."""

    @property
    def lead(self) -> int: ...
    @property
    def term(self) -> int: ...


class DivergenceAlarm:
    """One node's comparison of its digests with the others'. For the node's thread."""

    def __init__(self, node_id: int, machine: Machine, raft: Leading, send: Callable[[list[Message]], None]) -> None:
        """send: to the transport."""
        self._node_id = node_id
        self._machine = machine
        self._digest = machine.digest
        self._raft = raft
        self._send = send
        self._heard: dict[int, dict[Point, int]] = {}
        self._ticks = 0
        self._differs_since: int | None = None
        self._complaints = Minutely(logger())
        self.reports = self.found = 0

    def metrics(self) -> Metrics:
        """What the others reported, and how often it differed."""
        return {"divergence_reports_total": self.reports, "divergence_found_total": self.found}

    def tick(self) -> None:
        """Time passes; reports and compares when it is time. Raises Diverged."""
        self._ticks += 1
        term, now = self._raft.term, self._digest.now
        if self._ticks % REPORT_EVERY or not term or now is None:
            return
        self._digest.note(*now)
        latest = list(self._digest.points.items())[-POINTS_SENT:]
        context = b"".join(_POINT.pack(*point, value) for point, value in latest)
        others = self._members() - {self._node_id}
        self._send([Message(REPORT, to=to, from_=self._node_id, term=term, context=context) for to in sorted(others)])
        self.judge()

    def _members(self) -> set[int]:
        members = self._machine.conf_state
        return set() if members is None else {*members.voters, *members.voters_outgoing, *members.learners}

    def hear(self, message: Message) -> None:
        """Takes a report, and compares. Requires: server/guards.py has looked at it. Raises Diverged."""
        self.reports += 1
        heard = self._heard.setdefault(message.from_, {})
        for begin, index, value in _POINT.iter_unpack(message.context):
            point = Point(begin, index)
            heard.pop(point, None)
            heard[point] = value
        while len(heard) > POINTS_KEPT:
            del heard[next(iter(heard))]
        self.judge()

    def judge(self) -> None:
        """Compares everything that is known. Raises Diverged if it is this node that has to stop."""
        members = self._machine.conf_state
        voters = set() if members is None else set(members.voters)
        for gone in self._heard.keys() - self._members():
            del self._heard[gone]
        differs = False
        for point, mine in self._digest.points.items():
            others = {peer: heard[point] for peer, heard in self._heard.items() if point in heard}
            if any(value != mine for value in others.values()):
                differs = True
                self._judge(point, mine, others, voters)
        if not differs:
            self._differs_since = None

    def _judge(self, point: Point, mine: int, others: Mapping[int, int], voters: set[int]) -> None:
        """Says who differs at a point where somebody does. Raises Diverged."""
        if self._differs_since is None:
            self._differs_since = self._ticks
        votes = Counter(value for peer, value in {**others, self._node_id: mine}.items() if peer in voters)
        value, most = votes.most_common(1)[0] if votes else (mine, 0)
        differing = sorted(peer for peer, theirs in others.items() if theirs != mine)
        told = f"what was applied up to entry {point.at:,} (counted from {point.begin:,}) differs"
        if 2 * most > len(voters):
            if value != mine:
                raise Diverged(
                    f"{told} here (digest {mine:08x}) from what most of the members have applied ({value:08x}): this "
                    "node's engine isn't what the log says"
                )
            self._tell(f"{told} on node {_names(differing)} from what most of the members have applied: it has to stop")
            return
        leader = self._raft.lead
        all_known = votes.total() == len(voters)
        waited = self._ticks - self._differs_since >= PATIENCE
        if (all_known or waited) and leader != self._node_id and others.get(leader, mine) != mine:
            raise Diverged(
                f"{told} between this node ({mine:08x}) and the leader, node {leader} ({others[leader]:08x}), and no "
                "majority says which of the two is wrong; the leader goes on and this node doesn't: compare both with the "
                "log, or with a backup, before you trust either"
            )
        self._tell(
            f"{told} between this node and node {_names(differing)}, and no majority says which of them is wrong"
        )

    def _tell(self, sentence: str) -> None:
        self.found += 1
        self._complaints.say(f"node {self._node_id}: {sentence}")


def _names(peers: list[int]) -> str:
    return ", ".join(map(str, peers))

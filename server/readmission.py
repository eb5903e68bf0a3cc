"""The way back of a node that has lost its disk: readmitted by the leader, with an empty directory, by two changes.

    the node                          the leader                                              all members
    an empty directory: kept out
    asks, with each handshake ──────▶ a member, whose known directory is silent?
                                      proposes: node 3 is a learner, with this directory ───▶ applied: "readmitted"
    is told so: takes part again ◀─── begins anew with it: log, or snapshot and log
    has all up to that entry ───────▶ proposes: node 3 is a voter ──────────────────────────▶ applied: "votes again"

Why that is safe, and how it was tried on some thousand runs with every rule left out once, is in
raft/simulation/readmission.py. In short: what the lost disk had promised counts for nothing from the first change on, which
a majority has committed without the node; and the empty directory is another node under the same id, that begins as a
learner.

Invariants:

1. Nobody sends messages of Raft to a directory, or hears one, that the applied book doesn't name, or whose own word isn't
   that a later entry has let it in (server/roster.py).
2. When the first change is put in force, what the leader knew of the old directory goes: the node is removed from Raft's
   configuration and comes back as a learner, in one step (`put_in_force`).
3. A node on its way back doesn't count time before it has applied the first change (Membership.may_campaign), and passes
   over heartbeats that were meant for the old directory (`meant_for_another`): a commit index that its log doesn't reach.
4. It is promoted when its log has reached the first change: everything that was committed when it asked stands before.
5. One node at a time, one proposal in an election timeout. A directory is readmitted only if the known one is silent: a
   second process with the same id does no harm to the first.

Left out: learners that were never voters (an operator removes and adds them), and directories that aren't empty: an older
copy has promised something, so its way back is an empty one, too. A majority that has lost its disks doesn't come back by
itself: nothing is committed without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from raft import RawNode
from raft.errors import ProposalDroppedError
from raft.kinds import ConfChangeType, StateType
from raft.raftpb import MSG_HEARTBEAT, ConfChange, ConfChangeSingle, ConfChangeV2, ConfState, Message
from server.address_book import AddressBook, Book, BookChange, Member, Record
from server.logs import Minutely, logger
from server.roster import Roster

__all__ = ["Around", "Readmission", "put_in_force"]


class Callers(Protocol):
    """Who calls the other members."""

    def introduce(self) -> None: ...


class Applied(Protocol):
    """What is applied here."""

    @property
    def applied_index(self) -> int: ...


class Heard(Protocol):
    """Who was heard, and when. silence_s: an election timeout: who was heard in it lives."""

    @property
    def silence_s(self) -> float: ...

    def heard_ago_s(self, node_id: int, now: float) -> float: ...


class Around(NamedTuple):
    """What lies around. later: has a function called in the node's thread."""

    kept: AddressBook
    roster: Roster
    machine: Applied
    contact: Heard
    later: Callable[[Callable[[], object]], None]
    now: Callable[[], float]


class Readmission:
    """One node's part in it, whichever that is. For the node's thread, but for `sentence`."""

    def __init__(self, raft: RawNode, around: Around) -> None:
        self._raft = raft
        self._around = around
        self._kept, self._roster = around.kept, around.roster
        self._roster.asked = lambda node, number: around.later(lambda: self.asked(node, number))
        self._seen = around.kept.book
        self._returning = _returning(self._seen)
        self._next = 0.0  # when it asks, or proposes, again
        self._refused = Minutely(logger())

    def _applied_index(self) -> int:
        return self._around.machine.applied_index

    def _is_time(self) -> bool:
        """Once in an election timeout."""
        return self._around.now() >= self._next

    def _take_time(self) -> None:
        self._next = self._around.now() + self._around.contact.silence_s

    def _heard_ago_s(self, node: int) -> float:
        return self._around.contact.heard_ago_s(node, self._around.now())

    # ---- the node that has lost its disk ----------------------------------------------------------------------------

    def ask(self, callers: Callers) -> None:
        """Has the others asked, again and again, if this node is kept out with a directory that has promised nothing."""
        self._roster.asks = self._raft.raft.log.last_index() == 0
        if self._roster.asks and self._is_time():
            self._take_time()
            callers.introduce()

    def meant_for_another(self, messages: Sequence[Message]) -> list[Message]:
        """The messages without those that were made for the directory that this one replaces (invariant 3)."""
        last = self._raft.raft.log.last_index()
        return [m for m in messages if m.type != MSG_HEARTBEAT or m.commit <= last]

    @property
    def arrives(self) -> bool:
        """Whether the entry that let this directory in isn't applied here yet."""
        return self._applied_index() < self._roster.admitted

    def sentence(self) -> str:
        """Where this node is on its way back; "" if it isn't on one."""
        roster = self._roster
        if roster.kept_out:
            if not roster.asks:
                return ""
            leads = roster.leads()
            if leads:
                return f"asks to be readmitted with its empty directory: node {leads} leads, and has to propose it"
            return (
                "asks to be readmitted with its empty directory, and waits: no node that it reaches knows a leader; if a "
                "majority has lost its disks, there will be none"
            )
        own = self._kept.book.members.get(roster.node_id)
        applied, admitted = self._applied_index(), roster.admitted
        if applied < admitted or (own is not None and _returns(own)):
            return f"is being readmitted: has {applied} of {admitted} entries, and has no vote until it has them all"
        return ""

    # ---- the leader ------------------------------------------------------------------------------------------------

    def asked(self, node: int, number: int) -> None:
        """A node that is kept out asks to be readmitted with this directory. Only a leader does anything."""
        member = self._kept.book.members.get(node)
        if not self._may_propose() or member is None or member.number == number or not self._is_time():
            return
        why = self._refusal(node, member)
        if why:
            self._refused.say(f"node {node} asks to be readmitted with an empty directory, and isn't: {why}")
            return
        self._take_time()
        self._say(f"proposes to readmit node {node}, which has lost its disk, with directory {number:016x}")
        record = Record(node, member.host, member.port, number, admits=True)
        self._propose(ConfChangeType.ADD_LEARNER_NODE, node, BookChange(records=(record,)).encode())

    def _refusal(self, node: int, member: Member) -> str:
        """Why the node can't be readmitted now; "" if it can."""
        ago_s = self._heard_ago_s(node)
        if ago_s < self._around.contact.silence_s:
            return (
                f"the directory that is known was heard {ago_s:.1f} s ago; is another process running as node {node}?"
            )
        if member.learner and not _returns(member):
            return "it is a learner that never had a vote: remove it, and add it anew"
        other = next((each for each, one in self._kept.book.members.items() if each != node and _returns(one)), 0)
        return f"node {other} is on its way back, and comes first" if other else ""

    def _may_propose(self) -> bool:
        """Whether this node leads, and no other change is under way."""
        raft = self._raft.raft
        if self._raft.role != StateType.LEADER or raft.tracker.voters.outgoing:
            return False
        waits = raft.log.applied < raft.pending_conf_index <= raft.log.last_index()
        return not waits and self._applied_index() >= raft.log.applied

    def _propose(self, kind: ConfChangeType, node: int, context: bytes) -> None:
        """A change that is refused now is proposed again: the node asks again, or is still ready."""
        with contextlib.suppress(ProposalDroppedError):
            self._raft.propose_conf_change(ConfChangeV2(changes=(ConfChangeSingle(kind, node),), context=context))

    def follow(self) -> None:
        """Tells what has changed in the book, and promotes who is ready. O(1) if nobody is on the way back."""
        book, seen = self._kept.book, self._seen
        if book is not seen:
            self._seen, self._returning = book, _returning(book)
            for sentence in _news(seen, book):
                self._say(sentence)
        if self._returning and self._raft.role == StateType.LEADER and self._is_time():
            for node, member in self._returning:
                if self._is_back(node, member) and self._may_propose():
                    self._take_time()
                    self._propose(ConfChangeType.ADD_NODE, node, b"")

    def _is_back(self, node: int, member: Member) -> bool:
        """Whether the node has everything that was committed when it asked (invariant 4), and lives."""
        progress = self._raft.raft.tracker.progress.get(node)
        if progress is None or progress.match < member.admitted:
            return False
        return self._heard_ago_s(node) < self._around.contact.silence_s

    def _say(self, sentence: str) -> None:
        logger().warning("node %d: %s", self._roster.node_id, sentence)


def put_in_force(raft: RawNode, change: ConfChange | ConfChangeV2) -> ConfState:
    """A committed change of the members in force. Who is let in anew as a learner begins anew (invariant 2)."""
    changes = change.as_v2().changes
    if len(changes) == 1 and changes[0].type == ConfChangeType.ADD_LEARNER_NODE:
        node = changes[0].node_id
        anew = any(record.id == node and record.admits for record in BookChange.decode(change.context).records)
        if anew and node in raft.raft.tracker.progress:
            raft.apply_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, node))
    return raft.apply_conf_change(change)


def _returns(member: Member) -> bool:
    """Whether a member is on its way back: a learner that has to come with a particular directory."""
    return member.learner and member.number != 0


def _returning(book: Book) -> list[tuple[int, Member]]:
    """The members that are on their way back."""
    return [(node, member) for node, member in book.members.items() if _returns(member)]


def _news(before: Book, after: Book) -> list[str]:
    """A sentence for each step of a way back that lies between the two books."""
    news = []
    for node, member in after.members.items():
        old = before.members.get(node)
        if old is None:
            continue
        if _returns(member) and old.number != member.number:
            news.append(
                f"node {node} has lost its disk, and is readmitted at entry {member.admitted} as a learner, with directory "
                f"{member.number:016x}"
            )
        elif _returns(old) and not member.learner and old.number == member.number:
            news.append(f"node {node} has everything again, and votes again")
    return news

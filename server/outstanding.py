"""The writes of one node that are under way: in which term each was proposed, and which are to be proposed again.

    Raft took it, in term T ──▶ a copy of term T ──▶ applied here: who waits is told
                                   │        │
                                   │        └─ an entry of a later term is applied here first ──┐
                                   └─ it was not sent, or the leader has refused it ────────────┤
                                                                                                ▼
    Raft takes it, in term T' ◀── a leader is known ◀───────────────────────────────────────── held: it is in no log

When a leader dies or is deposed, its followers' writes and its own are in some log or in none. A client that was told
"unknown" would have to find out. So the node finds out, and proposes again what is in no log: with the same origin,
sequence and deadline. Its client waits a little longer, and that is all.

Why no write is applied twice, and none that was called "not written" is applied:

1. A copy is meant for one term. The leader of term T appends its own proposals as entries of term T. A forwarded one says
   for which term it is meant (server/forwards.py); a node takes it only if it leads in exactly that term, and never passes
   it on. A term has one leader, and a message arrives once or not at all. So a copy of term T becomes one entry at most,
   and that is of term T.
2. Along the log, terms never fall. Once an entry of a later term than T is applied here, all entries of term T that are
   ever committed are before it, and were applied here. A copy of term T that wasn't among them is dead: its entry, if
   there is one, will be overwritten.
3. Before that, a copy is dead only if its message surely was not sent, or came back refused by a node that did not take
   it. A refusal names the term of its copy: one that comes late says nothing about a newer copy.
4. A new copy is made only when the one before it is dead, so one at most is alive. A client is told "not written" only
   when none is alive.
5. A snapshot from the leader hides what was applied: entries up to its term may hold a copy that was never seen here. Of
   a copy of an earlier term than the snapshot's, the outcome is unknown from then on. One of the same term may still be
   applied, and then that counts; if an entry of a later term comes first, it is unknown.

What nobody waits for any more is not proposed again: its client was told "unknown", and that must not last.

What stays unknown: what a snapshot has hidden; copies that are alive when the node stops, or when the time is up.

A proposal stays here until its time is up, at most. So what is here is bounded by `full`, at which new ones are refused.

Follows the thesis, section 6.3 (a client's request may be applied twice if the leader that took it dies), without the
client's help. etcd's clients are told "leader changed" or a timeout instead. All of it is for the node's thread.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.errors import NodeError, NodeStopped, NoLeader
from server.limits import OUTSTANDING_BYTES_MAX, OUTSTANDING_MAX
from server.proposals import Proposal, Proposals
from server.statemachine import Applied

__all__ = ["Outstanding"]


_HEAD = struct.Struct("<QQ")  # how a proposal begins: origin and sequence


class _Copy(NamedTuple):
    """A proposal that may be in a log, as an entry of this term or not at all."""

    term: int
    proposal: Proposal


class Outstanding:
    """What one node has handed to its Raft and has not seen applied; who waits for it is told through `Proposals`."""

    def __init__(self, proposals: Proposals) -> None:
        self._proposals = proposals
        self._origin = proposals.origin
        self._copies: dict[int, _Copy] = {}  # sequence → its living copy; the oldest deadlines come first, about
        self._held: dict[int, Proposal] = {}  # sequence → a proposal without a living copy
        self._hidden: set[int] = set()  # of the copies, those that a snapshot may have applied
        self._settled_term = 0
        self._size_bytes = 0

    def __len__(self) -> int:
        """How many proposals are under way."""
        return len(self._copies) + len(self._held)

    @property
    def full(self) -> bool:
        """Whether there is no room for another proposal."""
        return len(self) >= OUTSTANDING_MAX or self._size_bytes >= OUTSTANDING_BYTES_MAX

    # ---- what happens to proposals --------------------------------------------------------------------------------

    def proposed(self, proposals: Sequence[Proposal], term: int) -> None:
        """Raft took these in this term: each has a living copy. O(proposals)."""
        copies, head = self._copies, _HEAD.unpack_from
        for proposal in proposals:
            copies[head(proposal.data)[1]] = _Copy(term, proposal)
            self._size_bytes += len(proposal.data)

    def hold(self, proposals: Iterable[Proposal]) -> None:
        """None of these has a living copy: they wait to be proposed again. O(proposals)."""
        for proposal in proposals:
            self._held[_HEAD.unpack_from(proposal.data)[1]] = proposal
            self._size_bytes += len(proposal.data)

    def answer(self, applied: Sequence[Applied]) -> None:
        """These were applied here: they are under way no more, and who waits for them is told. O(applied)."""
        copies, ours = self._copies, self._origin
        if copies:
            for _, origin, sequence in applied:
                if origin == ours:
                    copy = copies.pop(sequence, None)
                    if copy is not None:
                        self._size_bytes -= len(copy.proposal.data)
                        self._hidden.discard(sequence)
        self._proposals.answer(applied)

    def returned(self, heads: Iterable[bytes], term: int) -> None:
        """The copies of this term that begin like this are dead: they were not sent, or the leader has changed.

        heads: the proposals' bytes, or the first 16 of them; other nodes' are passed over. O(heads).
        """
        self.hold([self._take(sequence) for sequence in self._of_term(heads, term)])

    def refused(self, heads: Iterable[bytes], term: int, error: NodeError) -> None:
        """The same, for a reason that will not pass soon: who waits is told. O(heads)."""
        dead = [self._take(sequence) for sequence in self._of_term(heads, term)]
        self._proposals.refuse([proposal.data for proposal in dead], error)

    # ---- what becomes known about copies ----------------------------------------------------------------------------

    def settle(self, applied_term: int) -> None:
        """An entry of this term has been applied here, and `answer` has been called for all up to it.

        Copies of earlier terms are dead, except for hidden ones, whose outcome is unknown. O(1) if the term is the last
        call's, else O(copies).
        """
        if applied_term <= self._settled_term:
            return
        self._settled_term = applied_term
        dead = [sequence for sequence, copy in self._copies.items() if copy.term < applied_term]
        unknown = self._hidden.intersection(dead)
        if unknown:
            self._forget_outcome(unknown)
        self.hold([self._take(sequence) for sequence in dead if sequence not in unknown])

    def hide(self, snapshot_term: int) -> None:
        """A snapshot whose last entry is of this term has taken the place of what would have been applied. O(copies)."""
        self._hidden.update(sequence for sequence, copy in self._copies.items() if copy.term <= snapshot_term)
        self.settle(snapshot_term)

    def expire(self, now: float) -> None:
        """Forgets copies whose time is up, and tells those who wait for a held proposal whose time is up. O(of those)."""
        late = []
        for sequence, copy in self._copies.items():
            if copy.proposal.deadline > now:
                break
            late.append(sequence)
        for sequence in late:
            self._take(sequence)
        held = [sequence for sequence, proposal in self._held.items() if proposal.deadline <= now]
        if held:
            self._refuse_held(held, NoLeader("no leader took the write in time, so it was not written: try again"))

    def take_held(self) -> list[Proposal]:
        """The proposals that are to be proposed again; the caller gives them back, or tells who waits. O(held)."""
        held, self._held = self._held, {}
        self._size_bytes -= sum(len(proposal.data) for proposal in held.values())
        return [proposal for sequence, proposal in held.items() if self._proposals.awaited(sequence)]

    @property
    def holds(self) -> bool:
        """Whether `take_held` has any."""
        return bool(self._held)

    def close(self, stopped: NodeStopped) -> None:
        """The node stops: what is held is in no log, and who waits for it may know that."""
        if self._held:
            self._refuse_held(list(self._held), stopped)

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _of_term(self, heads: Iterable[bytes], term: int) -> list[int]:
        found = []
        for head in heads:
            origin, sequence = _HEAD.unpack_from(head)
            copy = self._copies.get(sequence) if origin == self._origin else None
            if copy is not None and copy.term == term:
                found.append(sequence)
        return found

    def _take(self, sequence: int) -> Proposal:
        """Takes out a copy. A hidden one that surely wasn't taken was not applied by the snapshot either."""
        proposal = self._copies.pop(sequence).proposal
        self._hidden.discard(sequence)
        self._size_bytes -= len(proposal.data)
        return proposal

    def _forget_outcome(self, sequences: Iterable[int]) -> None:
        self._proposals.unknown([self._take(sequence).data for sequence in list(sequences)])

    def _refuse_held(self, sequences: list[int], error: NodeError) -> None:
        datas = [self._held.pop(sequence).data for sequence in sequences]
        self._size_bytes -= sum(map(len, datas))
        self._proposals.refuse(datas, error)

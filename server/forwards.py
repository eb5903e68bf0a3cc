"""Writes that one node passes on to another: how long they are still wanted, and what the leader makes of them.

    origin                              the stream                          the leader
    a deadline for each write  ──▶  "so many ms are left"  ──▶  its own deadline  ──▶  is it too late? does it decode?
                                                                                         │ yes           │ no
                                     "surely not written"  ◀──────────────────────────── ┴ ─ ─ ─ ─ ─ ─ ─ ┘

A write whose client has been told 504 must not be applied at some later time, over a newer one. So a forwarded proposal
carries what is left of its origin's patience, in milliseconds, because the two clocks have nothing to do with each other;
and the leader drops it when that is used up. In memory a MsgProp's context holds a deadline by this node's clock for each
entry, on the wire what is left of it; and in both it ends with the term whose leader the proposals are meant for:

    context on the wire    for each entry  4 bytes    ms that are left; 0: none; 2^32 - 1: it has no deadline
                                           8 bytes    the term; of a refusal, the term of what is refused, and nothing else

A node takes forwarded proposals only if it leads in exactly that term, and passes none on to another node: so a proposal
becomes an entry of that term or none, and its origin can find out which (server/outstanding.py has the argument).

What waits between two nodes (in a pipe full of frames, in the memory of a process that is stopped) ages as well. Each
frame says by its sender's clock when it was made. The fastest frame of a stream shows how far the two clocks are apart,
so for every other one it is known by how much it took longer (`TransitClock`), and that is taken off.

What remains: a proposal that is in the leader's log when its time is up is applied if a majority gets it, or not; that is
decided when the next leader is. And a stream whose first frame was the slow one has nothing to compare it with.

A proposal that the node doesn't take is answered, so that its origin proposes it again, or its client is told 503 at
once: with a MsgProp that is a refusal, whose entries are the proposals' first 16 bytes. It is only sent for what Raft did
not take: a forwarded proposal is in one place at any time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from raft.raftpb import ENTRY_NORMAL, MSG_PROP, DecodeError, Entry, Message
from server.errors import NodeError, NoLeader, Overloaded
from server.evaluation import Request
from server.limits import KEY_BYTES_MAX, PROPOSAL_BYTES_MAX
from server.principal import Principal
from server.sessions import Serial
from server.statemachine import MAX_VALUE_BYTES, decode_proposal
from server.v3.apply import field_of
from server.v3.rpc import InternalRaftRequest
from server.v3.wire import decode

__all__ = [
    "HEAD_BYTES",
    "NO_LEADER",
    "OVERLOADED",
    "PROPOSAL_BYTES_MAX",
    "UNREADABLE",
    "Sifted",
    "TransitClock",
    "deadlines",
    "fault",
    "from_wire",
    "refusal",
    "refused",
    "sift",
    "term_of",
    "to_wire",
    "with_deadlines",
]

HEAD_BYTES = 16  # origin and sequence: what a proposal is known by
NO_DEADLINE_MS = (1 << 32) - 1

NO_LEADER, OVERLOADED, UNREADABLE = range(1, 4)  # why a proposal was refused: the reject_hint of the refusal

_TERM = struct.Struct("<Q")

_SENTENCES: dict[int, tuple[type[NodeError], str]] = {
    NO_LEADER: (NoLeader, "the node that this one took for the leader leads no more: try again soon"),
    OVERLOADED: (Overloaded, "too much is waiting to be committed, so the leader refused the write: try again later"),
    UNREADABLE: (NodeError, "the leader can't read this node's proposal and refused it: do both run the same version?"),
}


def with_deadlines(at: Sequence[float], term: int = 0) -> bytes:
    """The context of a MsgProp for the leader of `term`, whose entries have these deadlines, seconds of this node's clock."""
    return struct.pack(f"<{len(at)}dQ", *at, term)


def term_of(message: Message) -> int:
    """The term that a MsgProp's proposals are meant for, or were meant for if it is a refusal; 0 if it says none."""
    return _TERM.unpack(message.context[-_TERM.size :])[0] if len(message.context) >= _TERM.size else 0


def deadlines(message: Message) -> tuple[float, ...]:
    """The deadline of each entry of a MsgProp, by this node's clock; infinity for one that has none."""
    if not message.context:
        return (math.inf,) * len(message.entries)
    return struct.unpack_from(f"<{len(message.entries)}d", message.context)


def to_wire(message: Message, now: float) -> Message:
    """A MsgProp as it is sent at `now`: with what is left to each entry."""
    if message.reject:
        return message
    left = [
        NO_DEADLINE_MS if at == math.inf else min(max(int((at - now) * 1000), 0), NO_DEADLINE_MS - 1)
        for at in deadlines(message)
    ]
    return replace(message, context=struct.pack(f"<{len(left)}IQ", *left, term_of(message)))


def from_wire(message: Message, now: float, late_s: float) -> Message:
    """A MsgProp as it was received at `now`, `late_s` seconds later than it could have been. Raises DecodeError."""
    count = 0 if message.reject else len(message.entries)
    if len(message.context) != 4 * count + _TERM.size:
        raise DecodeError(
            f"{count} proposals come with 4 bytes each and their term, and these with {len(message.context)} in all"
        )
    if message.reject:
        return message
    left = struct.unpack_from(f"<{count}I", message.context)
    at = [math.inf if ms == NO_DEADLINE_MS else now - late_s + ms / 1000 for ms in left]
    return replace(message, context=with_deadlines(at, term_of(message)))


class TransitClock:
    """How much longer each frame of a stream was under way than its fastest, from two clocks that don't agree."""

    def __init__(self) -> None:
        self._least_s = math.inf  # receiver's clock less sender's, for the fastest frame so far

    def late_s(self, sent_s: float, received_s: float) -> float:
        """`sent_s`: by the sender's clock; `received_s`: by this node's."""
        difference_s = received_s - sent_s
        self._least_s = min(self._least_s, difference_s)
        return difference_s - self._least_s


class Sifted(NamedTuple):
    """A forwarded MsgProp, sorted: what to propose, what to refuse because it can't be read, how many came too late."""

    good: list[Entry]
    unreadable: list[Entry]
    late: int


def sift(message: Message, now: float) -> Sifted:
    """What a leader makes of forwarded proposals, before they are entries of any log.

    message: a MsgProp whose context has the deadlines by this node's clock (`deadlines`); now: by the same clock. Each
    entry comes to one of three: unreadable if it has a `fault`, whatever its deadline; late, which is only counted, if its
    deadline is before `now`; else good. The order stays. O(bytes).
    """
    good: list[Entry] = []
    unreadable: list[Entry] = []
    late = 0
    for entry, deadline in zip(message.entries, deadlines(message)):
        if fault(entry):
            unreadable.append(entry)
        elif deadline < now:
            late += 1
        else:
            good.append(entry)
    return Sifted(good, unreadable, late)


def request_fault(data: bytes) -> str:
    """Why a request must not get into a log, or "". One without bytes is the state machine's. O(bytes)."""
    try:
        request = decode(InternalRaftRequest, data)
    except ValueError as error:
        return f"a request can't be read: {error}"
    return (
        ""
        if field_of(request) or not data
        else "a request has one of the fields that are known here, and this has none"
    )


def fault(entry: Entry) -> str:
    """Why an entry must not get into a log, or "": every node would end when it is applied. O(bytes)."""
    if entry.type != ENTRY_NORMAL:
        return f"an {entry.type} is forwarded by nobody"
    if len(entry.data) > PROPOSAL_BYTES_MAX:
        return f"a proposal has at most {PROPOSAL_BYTES_MAX:,} bytes, and this one has {len(entry.data):,}"
    try:
        operations = decode_proposal(entry.data).operations
    except ValueError as error:
        return str(error)
    for operation in operations:
        if isinstance(operation, Request):
            return request_fault(operation.data)
        if isinstance(operation, Serial | Principal):
            continue
        key, value = operation
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return f"a key has 1 to {KEY_BYTES_MAX:,} bytes, and this one has {len(key):,}"
        if value is not None and len(value) > MAX_VALUE_BYTES:
            return f"a value has at most {MAX_VALUE_BYTES:,} bytes, and this one has {len(value):,}"
    return ""


def refusal(entries: Sequence[Entry], from_: int, to: int, why: int, term: int) -> Message:
    """Tells node `to` that these proposals of its, which were meant for the leader of `term`, are in no log."""
    heads = [Entry(0, 0, data=entry.data[:HEAD_BYTES]) for entry in entries if len(entry.data) >= HEAD_BYTES]
    context = _TERM.pack(term)
    return Message(MSG_PROP, to=to, from_=from_, entries=heads, context=context, reject=True, reject_hint=why)


def refused(message: Message) -> tuple[list[bytes], NodeError]:
    """The beginnings of the proposals that such a message refuses, and what to tell who waits for them."""
    kind, sentence = _SENTENCES.get(message.reject_hint, _SENTENCES[NO_LEADER])
    return [entry.data for entry in message.entries], kind(sentence)

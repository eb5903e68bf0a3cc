"""Forwarded proposals: whatever the two clocks say, nobody's time is longer than it was, and what is refused is known."""

import math

import pytest

from engines.errors import StoreError
from raft.raftpb import ENTRY_CONF_CHANGE, MSG_HEARTBEAT, MSG_PROP, DecodeError, Entry, Message
from server.errors import NoLeader, Overloaded
from server.evaluation import Request
from server.forwards import (
    NO_LEADER,
    OVERLOADED,
    PROPOSAL_BYTES_MAX,
    TransitClock,
    deadlines,
    fault,
    from_wire,
    refusal,
    refused,
    sift,
    term_of,
    to_wire,
    with_deadlines,
)
from server.frames import decode_frame, encode_frame
from server.principal import Principal
from server.sessions import Serial
from server.statemachine import encode_proposal
from server.v3.rpc import InternalRaftRequest, PutRequest
from server.v3.wire import encode

ENTRIES = [Entry(0, 0, data=encode_proposal(7, number, [(b"k", b"v")])) for number in range(4)]
SENDERS_CLOCK, RECEIVERS_CLOCK = 5_000.0, 77.0


def proposal(at):
    return Message(MSG_PROP, to=1, from_=2, entries=ENTRIES[: len(at)], context=with_deadlines(at, term=7))


def through(message, sent_s, received_s, transit):
    """The message as it comes out of a frame."""
    data = encode_frame([message], SENDERS_CLOCK + sent_s)
    checksum = int.from_bytes(data[4:8], "little")
    (received,) = decode_frame(data[8:], checksum, message.from_, transit, RECEIVERS_CLOCK + received_s)
    return received


def test_what_is_left_is_the_same_by_both_clocks():
    at = [SENDERS_CLOCK + 3, SENDERS_CLOCK + 0.5, math.inf, SENDERS_CLOCK - 1]
    received = through(proposal(at), 0.0, 0.0, TransitClock())
    assert received.entries == ENTRIES
    assert term_of(received) == 7
    assert deadlines(received) == (RECEIVERS_CLOCK + 3, RECEIVERS_CLOCK + 0.5, math.inf, RECEIVERS_CLOCK)


def test_time_in_a_full_pipe_or_a_stopped_process_counts():
    """The heartbeat was prompt, so the proposal after it took four seconds longer than it had to."""
    transit = TransitClock()
    through(Message(MSG_HEARTBEAT, to=1, from_=2, term=1), 0.0, 0.001, transit)
    received = through(proposal([SENDERS_CLOCK + 6]), 1.0, 5.001, transit)
    assert deadlines(received)[0] == pytest.approx(RECEIVERS_CLOCK + 6.001)
    assert sift(received, RECEIVERS_CLOCK + 6.002).late == 1
    assert sift(received, RECEIVERS_CLOCK + 6.0).late == 0


def test_a_later_fast_frame_makes_the_earlier_guess_right():
    """With the first frame a slow one, too little is taken off, and never too much."""
    transit = TransitClock()
    assert transit.late_s(0.0, 10.0) == 0.0
    assert transit.late_s(5.0, 6.0) == 0.0
    assert transit.late_s(6.0, 16.0) == 9.0


def test_one_that_is_passed_on_again_keeps_its_deadline():
    at = [SENDERS_CLOCK + 2.0]
    once = through(proposal(at), 0.0, 0.0, TransitClock())
    again = from_wire(to_wire(once, RECEIVERS_CLOCK + 1.5), 0.0, 0.0)
    assert deadlines(again) == (0.5,)


def test_a_context_that_does_not_fit_its_entries_is_refused():
    for context in (b"", bytes(8), bytes(12), bytes(17)):
        with pytest.raises(DecodeError, match="4 bytes each and their term"):
            from_wire(Message(MSG_PROP, entries=ENTRIES[:2], context=context), 0.0, 0.0)
    with pytest.raises(DecodeError, match="their term"):
        from_wire(Message(MSG_PROP, entries=ENTRIES[:2], context=bytes(16), reject=True), 0.0, 0.0)


def test_a_leader_sorts_what_is_forwarded():
    bad = Entry(0, 0, data=b"harmless")
    message = Message(
        MSG_PROP,
        from_=2,
        entries=[ENTRIES[0], bad, ENTRIES[1], ENTRIES[2]],
        context=with_deadlines([5.0, 5.0, 1.0, 2.0]),
    )
    assert sift(message, 2.0) == ([ENTRIES[0], ENTRIES[2]], [bad], 1)
    assert sift(Message(MSG_PROP, entries=ENTRIES), 1e9).good == ENTRIES


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Entry(0, 0, data=b""), "20 bytes"),
        (Entry(0, 0, ENTRY_CONF_CHANGE, b""), "forwarded by nobody"),
        (Entry(0, 0, data=encode_proposal(1, 1, [(b"", None)])), "1 to 32,767 bytes"),
        (Entry(0, 0, data=encode_proposal(1, 1, [(b"k" * 32_768, None)])), "1 to 32,767 bytes"),
        (Entry(0, 0, data=encode_proposal(1, 1, [(b"k", bytes(PROPOSAL_BYTES_MAX))])), "at most 4,259,840 bytes"),
        (Entry(0, 0, data=encode_proposal(1, 1, [Request(b"\xff")])), "can't be read"),
        (Entry(0, 0, data=encode_proposal(1, 1, [Request(encode(InternalRaftRequest(ID=7)))])), "this has none"),
    ],
)
def test_what_no_node_could_apply_is_at_fault(entry, why):
    assert why in fault(entry)


def test_what_every_node_can_apply_is_not():
    for key in (b"k", b"k" * 32_767):
        assert fault(Entry(0, 0, data=encode_proposal(1, 1, [(key, b""), (key, None)]))) == ""
    assert fault(Entry(0, 0, data=encode_proposal(1, 1, [Serial(1, 1), Principal("a", 1), (b"k", b"")]))) == ""
    for data in (b"", encode(InternalRaftRequest(put=PutRequest(b"k")))):
        assert fault(Entry(0, 0, data=encode_proposal(1, 1, [Request(data)]))) == ""


@pytest.mark.parametrize(("why", "kind"), [(NO_LEADER, NoLeader), (OVERLOADED, Overloaded), (99, NoLeader)])
def test_a_refusal_names_its_proposals_and_says_why(why, kind):
    message = refusal([*ENTRIES[:2], Entry(0, 0, data=b"short")], 2, 1, why, term=9)
    received = through(message, 0.0, 0.0, TransitClock())
    assert term_of(received) == 9
    heads, error = refused(received)
    assert heads == [entry.data[:16] for entry in ENTRIES[:2]]
    assert type(error) is kind
    assert not isinstance(error, StoreError)

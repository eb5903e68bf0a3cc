"""What a peer may say: whatever Raft itself sends passes, and what would be saved and couldn't be read again doesn't."""

import pytest

from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_STORAGE_APPLY,
    MSG_TRANSFER_LEADER,
    MSG_VOTE,
    DecodeError,
    Entry,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from server.forwards import PROPOSAL_BYTES_MAX
from server.guards import LEASE_ANSWER, LEASE_ASK, NUMBER_MAX, TERM_LEAD_MAX, check, leads_too_far


def app(entries, **fields):
    return Message(MSG_APP, **{"to": 1, "from_": 2, "term": 5, "index": 7, "log_term": 3, **fields}, entries=entries)


SOUND = {
    "a heartbeat": Message(MSG_HEARTBEAT, to=1, from_=2, term=5, commit=4, context=bytes(16)),
    "an empty append": app([]),
    "entries that follow": app([Entry(3, 8), Entry(3, 9, data=b"x"), Entry(5, 10)]),
    "a vote": Message(MSG_VOTE, to=1, from_=2, term=NUMBER_MAX, index=NUMBER_MAX, log_term=NUMBER_MAX),
    "a read of another node": Message(MSG_READ_INDEX, to=1, from_=3, entries=[Entry(0, 0, data=bytes(16))]),
    "a long context of proposals": Message(MSG_PROP, to=1, from_=2, entries=[Entry(0, 0)], context=bytes(4000)),
    "another node is to lead": Message(MSG_TRANSFER_LEADER, to=1, from_=3, term=5),
    "a question about a lease": Message(LEASE_ASK, to=1, from_=2, term=5, entries=[Entry(0, 0, data=bytes(25))]),
    "an answer to one": Message(LEASE_ANSWER, to=1, from_=2, term=5, entries=[Entry(0, 0, data=bytes(33))]),
    "a snapshot": Message(MSG_SNAP, to=1, from_=2, term=5, snapshot=Snapshot(SnapshotMetadata(9, 5))),
}

UNSOUND = {
    "a node's own affair": (Message(MSG_HUP, to=1, from_=2), "never travels"),
    "another one": (Message(MSG_STORAGE_APPLY, to=1, from_=2), "never travels"),
    "a local message": (Message(MSG_HEARTBEAT, to=1, from_=2, commit=4), "can't be of term 0"),
    "a proposal with a term": (Message(MSG_PROP, to=1, from_=2, term=7), "can't be of term 7"),
    "a short refusal": (Message(MSG_PROP, to=1, from_=2, reject=True, entries=[Entry(0, 0, data=bytes(12))]), "16 bytes each"),
    "a short question about a lease": (
        Message(LEASE_ASK, to=1, from_=2, term=5, entries=[Entry(0, 0, data=bytes(24))]),
        "25 bytes each",
    ),
    "a read of nothing": (Message(MSG_READ_INDEX, to=1, from_=2), "a read has one entry"),
    "a read of much": (Message(MSG_READ_INDEX, to=1, from_=2, entries=[Entry(0, 0, data=bytes(65))]), "at most 64"),
    "a proposal that is passed on": (Message(MSG_PROP, to=1, from_=3, entries=[Entry(0, 0)]), "from node 3"),
    "another sender": (Message(MSG_VOTE, to=1, from_=3, term=1), "from node 3"),
    "a term at the end": (Message(MSG_VOTE, to=1, from_=2, term=NUMBER_MAX + 1), "end at"),
    "an index at the end": (Message(MSG_APP_RESP, to=1, from_=2, term=1, index=(1 << 64) - 1), "end at"),
    "a commit at the end": (Message(MSG_HEARTBEAT, to=1, from_=2, term=1, commit=1 << 63), "end at"),
    "a hint at the end": (Message(MSG_APP_RESP, to=1, from_=2, term=1, reject_hint=1 << 63), "end at"),
    "an entry of a later term": (Message(MSG_VOTE, to=1, from_=2, term=5, log_term=6), "names an entry of term 6"),
    "a hole": (app([Entry(3, 9)]), "entry 8 was to follow"),
    "a hole later": (app([Entry(3, 8), Entry(3, 10)]), "entry 9 was to follow"),
    "a falling term": (app([Entry(4, 8), Entry(3, 9)]), "of term 3, between 4 and 5"),
    "a term beyond the leader's": (app([Entry(6, 8)]), "of term 6, between 3 and 5"),
    "a huge entry": (app([Entry(3, 8, data=bytes(PROPOSAL_BYTES_MAX + 1))]), "nobody proposes"),
    "entries past the end": (app([Entry(3, NUMBER_MAX + 1)], index=NUMBER_MAX), "end at"),
    "entries in a vote": (Message(MSG_VOTE, to=1, from_=2, term=5, entries=[Entry(1, 1)]), "has no entries"),
    "a long context": (Message(MSG_HEARTBEAT, to=1, from_=2, term=5, context=bytes(65)), "at most 64 bytes"),
    "a MsgSnap of nothing": (Message(MSG_SNAP, to=1, from_=2, term=5), "without a snapshot"),
    "a snapshot of a later term": (
        Message(MSG_SNAP, to=1, from_=2, term=5, snapshot=Snapshot(SnapshotMetadata(9, 6))), "of term 5"),
    "a snapshot of no entry": (
        Message(MSG_SNAP, to=1, from_=2, term=5, snapshot=Snapshot(SnapshotMetadata(0, 5))), "of entry 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_what_nodes_say_passes(name):
    check(Message.decode(SOUND[name].encode()), 2)


@pytest.mark.parametrize("name", UNSOUND)
def test_what_no_node_can_have_meant_is_refused(name):
    message, why = UNSOUND[name]
    with pytest.raises(DecodeError, match=why):
        check(Message.decode(message.encode()), 2)


def test_a_term_may_lead_by_what_elections_alone_can_do():
    for own_term in (0, 1, 10**9):
        assert not leads_too_far(Message(MSG_VOTE, term=own_term + 5000), own_term)
        assert not leads_too_far(Message(MSG_VOTE, term=own_term + TERM_LEAD_MAX), own_term)
        assert leads_too_far(Message(MSG_VOTE, term=own_term + TERM_LEAD_MAX + 1), own_term)

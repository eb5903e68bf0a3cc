"""What a message from a peer may say: checked before Raft hears of it, and so before anything of it is saved.

    what                        bound                                      why
    a type                      those that travel between nodes            the others are a node's own affair
    a term                      0 of what is forwarded, else 1 or more     to Raft, 0 is a message of the node's own
    terms, indexes              2^62                                       a log holds 64 bits, and adds to them
    a term, beyond one's own    2^32                                       see below
    entries of a MsgApp         follow on its index, one by one; terms     a log with a hole can't be read again
                                don't fall, and none is beyond the
                                message's
    an entry                    a proposal's largest size                  nobody could have proposed it
    a refused proposal          16 bytes: origin and sequence              who waits for it is looked up by them
    a read                      one entry, its position                    Raft looks at the first
    about a lease               entries of 25 bytes, answers of 33         server/v3/lease_calls.py unpacks them
    context                     64 bytes; of a MsgProp 4 for each entry    a read's position has 16
                                and 8 (server/forwards.py)

A term only rises, and every node saves the highest that it hears of: one message with a term near the end of the range
would end every cluster for good. But a member that was away may hear a term that is rightly higher: by one for each
election, of which half a second's timeout allows 172,800 a day. So a term may lead by 2^32: 68 years of that; and 2^30
such leaps fit into the range. What is refused leaves everything as it was.

Follows what etcd's servers check of a message (server/etcdserver/api/rafthttp, raft.Step), and more.
"""

from __future__ import annotations

from raft.raftpb import (
    ENTRY_NORMAL,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY_RESP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    MSG_VOTE,
    MSG_VOTE_RESP,
    DecodeError,
    Entry,
    Message,
)
from server.forwards import HEAD_BYTES, PROPOSAL_BYTES_MAX

__all__ = [
    "LEASE_ANSWER",
    "LEASE_ANSWER_BYTES",
    "LEASE_ASK",
    "LEASE_ASK_BYTES",
    "NUMBER_MAX",
    "REPORT",
    "REPORT_BYTES_MAX",
    "REPORT_POINT_BYTES",
    "TERM_LEAD_MAX",
    "check",
    "leads_too_far",
]

NUMBER_MAX = 1 << 62
TERM_LEAD_MAX = 1 << 32
CONTEXT_BYTES_MAX = 64
REPORT = MSG_STORAGE_APPLY_RESP  # the library never sends it; between nodes it says what was applied (divergence.py)
REPORT_POINT_BYTES = 20
REPORT_BYTES_MAX = 9 * REPORT_POINT_BYTES
SENTENCE_BYTES_MAX = 1000
LEASE_ASK, LEASE_ANSWER = MSG_STORAGE_APPEND, MSG_STORAGE_APPEND_RESP  # likewise: server/v3/lease_calls.py
LEASE_ASK_BYTES, LEASE_ANSWER_BYTES = 25, 33
LEASES = {LEASE_ASK: LEASE_ASK_BYTES, LEASE_ANSWER: LEASE_ANSWER_BYTES}

FORWARDED = (MSG_PROP, MSG_READ_INDEX)  # of no term
NAMING_ANOTHER = (MSG_READ_INDEX, MSG_TRANSFER_LEADER)  # the node that asked first, the node that is to lead
READS = (MSG_READ_INDEX, MSG_READ_INDEX_RESP)
TRAVELLING = frozenset(
    (
        *FORWARDED, MSG_APP, MSG_APP_RESP, MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, MSG_SNAP,
        MSG_HEARTBEAT, MSG_HEARTBEAT_RESP, MSG_READ_INDEX_RESP, MSG_TRANSFER_LEADER, MSG_TIMEOUT_NOW,
        REPORT, LEASE_ASK, LEASE_ANSWER,
    )
)  # fmt: skip


def check(message: Message, sender: int) -> None:
    """Raises DecodeError, with a sentence, for what node `sender` can't have meant. O(entries)."""
    if message.type not in TRAVELLING:
        raise DecodeError(f"a {message.type} never travels between nodes")
    if message.from_ != sender and message.type not in NAMING_ANOTHER:
        raise DecodeError(f"a message says it is from node {message.from_}")
    if (message.type in FORWARDED) == (message.term > 0):
        raise DecodeError(f"a {message.type} can't be of term {message.term:,}")
    most = max(message.term, message.log_term, message.index, message.commit, message.reject_hint)
    if most > NUMBER_MAX:
        raise DecodeError(f"terms and indexes end at {NUMBER_MAX:,}, and a message has {most:,}")
    if message.type not in FORWARDED and message.log_term > message.term:
        raise DecodeError(f"a message of term {message.term:,} names an entry of term {message.log_term:,}")
    if message.type == MSG_PROP and message.reject and any(not _is_refused(entry) for entry in message.entries):
        raise DecodeError(f"a refusal names proposals by {HEAD_BYTES} bytes each")
    if message.type == REPORT:
        _check_report(message)
    elif message.type == MSG_APP:
        _check_entries(message)
    elif message.type == MSG_SNAP:
        _check_snapshot(message)
    elif message.type in READS:
        if len(message.entries) != 1 or len(message.entries[0].data) > CONTEXT_BYTES_MAX:
            raise DecodeError(f"a read has one entry of at most {CONTEXT_BYTES_MAX} bytes")
    elif message.type in LEASES:
        size = LEASES[message.type]
        if any(len(entry.data) != size for entry in message.entries):
            raise DecodeError(f"what is asked or said of a lease has {size} bytes each")
    elif message.type != MSG_PROP and message.entries:
        raise DecodeError(f"a {message.type} has no entries, and this one has {len(message.entries)}")
    if message.type not in (MSG_PROP, REPORT) and len(message.context) > CONTEXT_BYTES_MAX:
        raise DecodeError(f"a context has at most {CONTEXT_BYTES_MAX} bytes, and this one has {len(message.context):,}")


def _check_report(message: Message) -> None:
    size = len(message.context)
    if message.entries or not 0 < size <= REPORT_BYTES_MAX or size % REPORT_POINT_BYTES:
        raise DecodeError(f"a report of digests has up to {REPORT_BYTES_MAX} bytes, and this one has {size:,}")


def _is_refused(entry: Entry) -> bool:
    """A proposal is refused by its head alone, a membership change with a sentence after it (server/changes.py)."""
    size = len(entry.data)
    return size == HEAD_BYTES if entry.type == ENTRY_NORMAL else HEAD_BYTES <= size <= HEAD_BYTES + SENTENCE_BYTES_MAX


def _check_entries(message: Message) -> None:
    index, term = message.index, message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index:
            raise DecodeError(f"entry {index:,} was to follow, and entry {entry.index:,} came")
        if not term <= entry.term <= message.term:
            raise DecodeError(f"entry {index:,} is of term {entry.term:,}, between {term:,} and {message.term:,}")
        term = entry.term
        size = len(entry.data)
        if size > PROPOSAL_BYTES_MAX:
            raise DecodeError(
                f"entry {index:,} has {size:,} bytes, and nobody proposes more than {PROPOSAL_BYTES_MAX:,}"
            )
    if index > NUMBER_MAX:
        raise DecodeError(f"indexes end at {NUMBER_MAX:,}")


def _check_snapshot(message: Message) -> None:
    if message.snapshot is None:
        raise DecodeError("a MsgSnap without a snapshot")
    metadata = message.snapshot.metadata
    if not (0 < metadata.index <= NUMBER_MAX and 0 < metadata.term <= message.term):
        raise DecodeError(
            f"a snapshot of entry {metadata.index:,} and term {metadata.term:,} in a message of term {message.term:,}"
        )


def leads_too_far(message: Message, own_term: int) -> bool:
    """True if the message's term is beyond what a member that was cut off can have come to."""
    return message.term > own_term + TERM_LEAD_MAX

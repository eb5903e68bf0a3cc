"""How much there may be of everything that comes from outside or waits inside: one table, which README.md shows.

Whoever sends too much is told in one sentence, and nothing was done; whoever sends too slowly is cut off at a moment that
no byte moves. What waits is bounded in number and in bytes, so that a node which can't keep up says so instead of growing
until the system ends it.

The request line follows from the key: percent-encoded, a key has up to three times its bytes, and a scan may name three
of them (start, stop and prefix). So whatever key a batch can write, a path can read and delete, and a scan can begin at.

`TABLE` is what people read: tests/server/test_limits.py compares it with README.md, and names for each row the test that
reaches the limit.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ANSWER_BYTES_PER_S_MIN",
    "ANSWER_S",
    "BODY_BYTES_MAX",
    "BODY_S",
    "CONNECTIONS_MAX",
    "CONNECTIONS_WAITING_MAX",
    "FIELDS_BYTES_MAX",
    "FIELDS_MAX",
    "FIELD_BYTES_MAX",
    "FRAME_BYTES_MAX",
    "GRANTS_MAX",
    "HANDSHAKE_TIMEOUT_S",
    "HEAD_S",
    "IDLE_S",
    "KEY_BYTES_MAX",
    "LEASES_MAX",
    "LEASE_CALLS_MAX",
    "NAME_BYTES_MAX",
    "OUTSTANDING_BYTES_MAX",
    "OUTSTANDING_MAX",
    "PASSWORD_BYTES_MAX",
    "PASSWORD_CHECKS_MAX",
    "PEER_QUEUE_BYTES_MAX",
    "PEER_QUEUE_MESSAGES_MAX",
    "PLACE_S",
    "PROPOSALS_WAITING_MAX",
    "PROPOSAL_BYTES_MAX",
    "RANGE_BYTES_MAX",
    "REMOVED_MAX",
    "REQUEST_LINE_BYTES_MAX",
    "ROLES_MAX",
    "SESSIONS_MAX",
    "SNAPSHOTS_FROM_PEER_MAX",
    "SNAPSHOT_BYTES_MAX",
    "SNAPSHOT_BYTES_PER_S_MIN",
    "SNAPSHOT_GRACE_S",
    "SNAPSHOT_STREAMS_MAX",
    "SPARE_CONNECTIONS_MAX",
    "STRANGERS_MAX",
    "STREAMS_MAX",
    "STREAM_QUEUE_BYTES_MAX",
    "TABLE",
    "TOKENS_MAX",
    "TXN_OPERATIONS_MAX",
    "UNCOMMITTED_BYTES_MAX",
    "UNTAKEN_BYTES_MAX",
    "USERS_MAX",
    "V3_BODY_BYTES_MAX",
    "VIEWERS_MAX",
    "WATCHES_MAX",
    "Row",
]

# ---- clients --------------------------------------------------------------------------------------------------------

KEY_BYTES_MAX = 32_767  # the engines' limit less the byte of the state machine's prefix
BODY_BYTES_MAX = 3 << 19  # 1.5 MiB, as etcd's
RANGE_BYTES_MAX = 256 << 20  # of keys and values in one answer of /v3/kv, and some for each version
TXN_OPERATIONS_MAX = 128  # in each of its lists, as etcd's
V3_BODY_BYTES_MAX = 4 << 20  # of etcd's JSON: the 2 MiB that etcd's gRPC takes are 2.7 in base64
REQUEST_LINE_BYTES_MAX = 296 << 10  # 3 keys of 3 * 32,767 bytes are 288 KiB; the rest is for the names around them
FIELD_BYTES_MAX = 8 << 10
FIELDS_BYTES_MAX = 64 << 10
FIELDS_MAX = 64
CONNECTIONS_MAX = 256
SPARE_CONNECTIONS_MAX = 16  # beyond those, for /_/health, /_/status and /_/metrics
CONNECTIONS_WAITING_MAX = 4096  # for a place: all who watch come at the same moment when a node has started again
PLACE_S = 5.0  # for how long
HEAD_S = 10.0  # from a head's first byte to its last; for a new connection, from when it has its place
BODY_S = 30.0
ANSWER_S = 30.0  # for each block of an answer, and how late a long answer may be against its slowest pace
ANSWER_BYTES_PER_S_MIN = 64 << 10  # that pace: an open scan keeps old tables, pages and segments on the disk
IDLE_S = 75.0  # between an answer and the next request
VIEWERS_MAX = 16  # pages that watch this node, beside the connections
SNAPSHOT_STREAMS_MAX = 2  # that clients read at a time
TOKENS_MAX = 10_000  # of authentication
USERS_MAX = ROLES_MAX = 10_000
GRANTS_MAX = 10_000  # permissions of one role
NAME_BYTES_MAX = 1 << 10  # of a user or a role
PASSWORD_BYTES_MAX = 1 << 10
PASSWORD_CHECKS_MAX = 2  # at a time; 16 MiB and 30 ms each (server/v3/passwords.py)
STREAMS_MAX = 10_000  # watches, keepalives, observers and snapshots of etcd's gateway, beside the connections
STREAM_QUEUE_BYTES_MAX = 1 << 20  # for each of them, beside one message
WATCHES_MAX = 100_000  # of a node; any number of them on a stream
SESSIONS_MAX = 10_000  # 24 bytes each, and the key: less than a megabyte in every engine and snapshot
LEASES_MAX = 1 << 18  # a leader needs some 300 bytes of memory for each
LEASE_CALLS_MAX = 10_000  # keepalives and the like that wait for the leader's word, on one node

# ---- what waits -----------------------------------------------------------------------------------------------------

PROPOSAL_BYTES_MAX = (4 << 20) + (64 << 10)  # of one, encoded: a value of 4 MiB, its key, and what frames them
PROPOSALS_WAITING_MAX = 16_384
UNTAKEN_BYTES_MAX = 256 << 20  # of proposals that the node's thread has not taken
OUTSTANDING_MAX = 65_536  # proposals that Raft has, and whose end is not known
OUTSTANDING_BYTES_MAX = 256 << 20
UNCOMMITTED_BYTES_MAX = 256 << 20  # in a leader's log; then Overloaded

# ---- peers ----------------------------------------------------------------------------------------------------------

PEER_QUEUE_MESSAGES_MAX = 4096  # for each peer; etcd's stream buffer
PEER_QUEUE_BYTES_MAX = 128 << 20  # for each peer; or one message
FRAME_BYTES_MAX = 64 << 20  # a receiver refuses more; MsgApp is limited to far less by the Raft configuration
STRANGERS_MAX = 32  # connections that have not said yet who they are
HANDSHAKE_TIMEOUT_S = 5.0
SNAPSHOTS_FROM_PEER_MAX = 2  # that one member sends at a time
SNAPSHOT_BYTES_MAX = 1 << 40
SNAPSHOT_BYTES_PER_S_MIN = 64 << 10
SNAPSHOT_GRACE_S = 5.0
REMOVED_MAX = 1000  # members that are remembered after they were removed


class Row(NamedTuple):
    """A line of the table: what is limited, to how much, and what happens beyond it."""

    what: str
    limit: str
    beyond: str


def _mib(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"


def _kib(size: int) -> str:
    return f"{size >> 10} KiB"


TABLE = (
    Row("a key, wherever it stands", f"1 to {KEY_BYTES_MAX:,} bytes", "400"),
    Row("a body: a value, or a batch with all its operations", _mib(BODY_BYTES_MAX), "413, before it is read"),
    Row("an answer of `/v3/kv`, all its keys and values", _mib(RANGE_BYTES_MAX), "429: ask with a limit"),
    Row(
        "a transaction of `/v3/kv/txn`",
        f"{TXN_OPERATIONS_MAX} compares or operations in a list; an inner one has so many less",
        "400, as etcd says it",
    ),
    Row("a body of etcd's JSON gateway", _mib(V3_BODY_BYTES_MAX), "413"),
    Row("a request line: three keys of a scan, percent-encoded", _kib(REQUEST_LINE_BYTES_MAX), "431"),
    Row(
        "a header field; all of them",
        f"{_kib(FIELD_BYTES_MAX)}; {_kib(FIELDS_BYTES_MAX)}, and {FIELDS_MAX} fields",
        "431",
    ),
    Row(
        "connections",
        f"{CONNECTIONS_MAX}, and {SPARE_CONNECTIONS_MAX} more for `/_/health`, `/_/status` and `/_/metrics`",
        "the one that has been idle longest is closed; if all are busy, the next one waits for its place",
    ),
    Row(
        "connections that wait for a place", f"{CONNECTIONS_WAITING_MAX:,}, for {PLACE_S:g} s", "503: nothing was done"
    ),
    Row("a head; a body; from its first byte to its last", f"{HEAD_S:g} s; {BODY_S:g} s", "408"),
    Row(
        "an answer that is taken slowly",
        f"{ANSWER_S:g} s, and for a scan or a snapshot {ANSWER_S:g} s behind a pace of {_kib(ANSWER_BYTES_PER_S_MIN)} a second",
        "the connection is closed",
    ),
    Row("a connection without a request", f"{IDLE_S:g} s", "it is closed"),
    Row("pages that watch a node, beside its connections", f"{VIEWERS_MAX}", "503"),
    Row("streams of etcd's gateway, beside the connections", f"{STREAMS_MAX:,}", "503"),
    Row("watches on all of them together", f"{WATCHES_MAX:,}", "the watch is refused"),
    Row(
        "what waits to be sent to a stream",
        f"{_mib(STREAM_QUEUE_BYTES_MAX)}, and one message",
        "its watches go on from the history when it has been taken, or are told that it was compacted",
    ),
    Row("snapshots that are read at a time", f"{SNAPSHOT_STREAMS_MAX}", "503"),
    Row(
        "sessions", f"{SESSIONS_MAX:,}", "the one that was used least recently is forgotten, and its next write is 410"
    ),
    Row("users; roles; permissions of one role", f"{USERS_MAX:,}; {ROLES_MAX:,}; {GRANTS_MAX:,}", "429"),
    Row("a user's or a role's name; a password", f"{NAME_BYTES_MAX:,} bytes; {PASSWORD_BYTES_MAX:,} bytes", "400"),
    Row("tokens", f"{TOKENS_MAX:,}", "the one that was used least recently ends"),
    Row(
        "passwords that are hashed at a time", f"{PASSWORD_CHECKS_MAX}", "the others wait 5 s for their turn, then 429"
    ),
    Row("leases", f"{LEASES_MAX:,}", "429: nothing was granted"),
    Row("keepalives that wait for the leader's word, on one node", f"{LEASE_CALLS_MAX:,}", "429"),
    Row(
        "writes that wait for an outcome",
        f"{PROPOSALS_WAITING_MAX:,}; {_mib(UNTAKEN_BYTES_MAX)} before Raft has them",
        "503: nothing was done",
    ),
    Row(
        "writes that Raft has and whose end isn't known",
        f"{OUTSTANDING_MAX:,}, {_mib(OUTSTANDING_BYTES_MAX)}; {_mib(UNCOMMITTED_BYTES_MAX)} in a leader's log",
        "503: nothing was done",
    ),
    Row(
        "what waits to be sent to a peer",
        f"{PEER_QUEUE_MESSAGES_MAX:,} messages, {_mib(PEER_QUEUE_BYTES_MAX)}",
        "it is dropped, and Raft sends again",
    ),
    Row("a frame from a peer", _mib(FRAME_BYTES_MAX), "its connection is closed"),
    Row(
        "connections to the peers' port that haven't said who they are",
        f"{STRANGERS_MAX}, for {HANDSHAKE_TIMEOUT_S:g} s",
        "the oldest is closed",
    ),
    Row("snapshots that one peer sends at a time", f"{SNAPSHOTS_FROM_PEER_MAX}", "503"),
    Row(
        "a snapshot that comes slowly",
        f"{SNAPSHOT_GRACE_S:g} s behind a pace of {_kib(SNAPSHOT_BYTES_PER_S_MIN)} a second",
        "the connection is closed, and the next one goes on where it ended",
    ),
    Row("removed members that are remembered", f"{REMOVED_MAX:,}", "the oldest is forgotten"),
)
"""The limits that somebody may meet."""

"""What etcd answers instead of a result: a gRPC code, and a sentence that clients compare word for word.

    code  name                HTTP        code  name                HTTP
       1  canceled             408           9  failed precondition  400
       2  unknown              500          10  aborted              409
       3  invalid argument     400          11  out of range         400
       4  deadline exceeded    504          12  unimplemented        501
       5  not found            404          13  internal             500
       6  already exists       409          14  unavailable          503
       7  permission denied    403          15  data loss            500
       8  resource exhausted   429          16  unauthenticated      401

1. The code alone decides the HTTP status, whatever was asked. One unlucky event can have two of them: a lease that isn't
   there is code 5 (404) for a put, and code 2 (500) for a lock, which passes the sentence on without its code.
2. "Timed out" is code 14, like "no leader", although a write that timed out may be applied later: whether a write is
   unknown or undone, a client of etcd can only read from the sentence. The simple routes keep them apart (504, 503).
3. The body is `{"error":S,"code":N,"message":S}`. Within a stream it is the last line, `{"error":{"grpc_code":N,
   "http_code":H,"message":S,"http_status":T}}`, without a newline.

The sentences are pairs of code and text, raised as `Status(*EMPTY_KEY)`, and not ready-made exceptions: one that is raised
in two threads would carry both tracebacks.

Follows etcd 3.5's api/v3rpc/rpctypes/error.go, and grpc-gateway 1.16's runtime/errors.go and handler.go.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

__all__ = [
    "AUTH_FAILED",
    "AUTH_NOT_ENABLED",
    "AUTH_OLD_REVISION",
    "AUTH_USER_EMPTY",
    "BAD_LEADER_TRANSFEREE",
    "COMPACTED",
    "CORRUPT",
    "DOWNGRADE_IN_PROCESS",
    "DUPLICATE_KEY",
    "EMPTY_KEY",
    "FUTURE_REV",
    "INVALID_AUTH_MGMT",
    "INVALID_AUTH_TOKEN",
    "INVALID_DOWNGRADE_TARGET_VERSION",
    "INVALID_SORT_OPTION",
    "KEY_NOT_FOUND",
    "LEADER_CHANGED",
    "LEARNER_NOT_READY",
    "LEASE_EXIST",
    "LEASE_NOT_FOUND",
    "LEASE_PROVIDED",
    "LEASE_TTL_TOO_LARGE",
    "MEMBER_BAD_URLS",
    "MEMBER_NOT_ENOUGH_STARTED",
    "MEMBER_NOT_FOUND",
    "MEMBER_NOT_LEARNER",
    "NOT_CAPABLE",
    "NOT_LEADER",
    "NOT_SUPPORTED_FOR_LEARNER",
    "NO_INFLIGHT_DOWNGRADE",
    "NO_LEADER",
    "NO_SPACE",
    "PEER_URL_EXIST",
    "PERMISSION_DENIED",
    "PERMISSION_NOT_GIVEN",
    "PERMISSION_NOT_GRANTED",
    "REQUEST_TOO_LARGE",
    "ROLE_ALREADY_EXIST",
    "ROLE_EMPTY",
    "ROLE_NOT_FOUND",
    "ROLE_NOT_GRANTED",
    "ROOT_ROLE_NOT_EXIST",
    "ROOT_USER_NOT_EXIST",
    "STOPPED",
    "TIMEOUT",
    "TIMEOUT_DUE_TO_LEADER_FAIL",
    "TOO_MANY_LEARNERS",
    "TOO_MANY_OPS",
    "TOO_MANY_REQUESTS",
    "UNHEALTHY",
    "USER_ALREADY_EXIST",
    "USER_EMPTY",
    "USER_NOT_FOUND",
    "VALUE_PROVIDED",
    "WRONG_DOWNGRADE_VERSION_FORMAT",
    "Code",
    "Sentence",
    "Status",
    "quoted",
]


class Code:
    """gRPC's codes, by name."""

    CANCELED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_HTTP = {
    1: (408, "Request Timeout"),
    2: (500, "Internal Server Error"),
    3: (400, "Bad Request"),
    4: (504, "Gateway Timeout"),
    5: (404, "Not Found"),
    6: (409, "Conflict"),
    7: (403, "Forbidden"),
    8: (429, "Too Many Requests"),
    9: (400, "Bad Request"),
    10: (409, "Conflict"),
    11: (400, "Bad Request"),
    12: (501, "Not Implemented"),
    13: (500, "Internal Server Error"),
    14: (503, "Service Unavailable"),
    15: (500, "Internal Server Error"),
    16: (401, "Unauthorized"),
}


class Status(Exception):
    """A call's end without a result: etcd's code and sentence. Nothing was done, unless the sentence says otherwise."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.sentence} (code {self.code})"

    @property
    def http_status(self) -> int:
        """The HTTP status that grpc-gateway gives to the code."""
        return _HTTP[self.code][0]

    @property
    def reason(self) -> str:
        """The words of that status in the answer's first line."""
        return _HTTP[self.code][1]

    def body(self) -> bytes:
        """The body of an answer that is nothing but this."""
        sentence = quoted(self.sentence)
        return b'{"error":%b,"code":%d,"message":%b}' % (sentence, self.code, sentence)

    def stream_line(self) -> bytes:
        """What ends a stream whose head is sent already."""
        return b'{"error":{"grpc_code":%d,"http_code":%d,"message":%b,"http_status":%b}}' % (
            self.code,
            self.http_status,
            quoted(self.sentence),
            quoted(self.reason),
        )


# Go's encoder also escapes what would mean something in a page's HTML or JavaScript, and has no letters for \b and \f.
_ESCAPED_BY_GO = re.compile("[<>&\u2028\u2029]|\\\\[bf\\\\]")
_GO_ESCAPES = {"\\b": "\\u0008", "\\f": "\\u000c", "\\\\": "\\\\"}


def quoted(text: str) -> bytes:
    """The text as a JSON string, byte for byte as Go's encoding/json writes it. O(length)."""
    plain = json.dumps(text, ensure_ascii=False)
    escaped = _ESCAPED_BY_GO.sub(lambda found: _GO_ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}", plain)
    return escaped.encode("utf-8", "replace")


class Sentence(NamedTuple):
    """A code and what it says: `raise Status(*EMPTY_KEY)`."""

    code: int
    sentence: str


# ---- keys and transactions ------------------------------------------------------------------------------------------

EMPTY_KEY = Sentence(3, "etcdserver: key is not provided")
KEY_NOT_FOUND = Sentence(3, "etcdserver: key not found")
VALUE_PROVIDED = Sentence(3, "etcdserver: value is provided")
INVALID_SORT_OPTION = Sentence(3, "etcdserver: invalid sort option")
LEASE_PROVIDED = Sentence(3, "etcdserver: lease is provided")
TOO_MANY_OPS = Sentence(3, "etcdserver: too many operations in txn request")
DUPLICATE_KEY = Sentence(3, "etcdserver: duplicate key given in txn request")
COMPACTED = Sentence(11, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REV = Sentence(11, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = Sentence(8, "etcdserver: mvcc: database space exceeded")
REQUEST_TOO_LARGE = Sentence(3, "etcdserver: request is too large")
TOO_MANY_REQUESTS = Sentence(8, "etcdserver: too many requests")

# ---- leases ---------------------------------------------------------------------------------------------------------

LEASE_NOT_FOUND = Sentence(5, "etcdserver: requested lease not found")
LEASE_EXIST = Sentence(9, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = Sentence(11, "etcdserver: too large lease TTL")

# ---- members --------------------------------------------------------------------------------------------------------

PEER_URL_EXIST = Sentence(9, "etcdserver: Peer URLs already exists")
MEMBER_NOT_ENOUGH_STARTED = Sentence(9, "etcdserver: re-configuration failed due to not enough started members")
MEMBER_BAD_URLS = Sentence(3, "etcdserver: given member URLs are invalid")
MEMBER_NOT_FOUND = Sentence(5, "etcdserver: member not found")
MEMBER_NOT_LEARNER = Sentence(9, "etcdserver: can only promote a learner member")
LEARNER_NOT_READY = Sentence(9, "etcdserver: can only promote a learner member which is in sync with leader")
TOO_MANY_LEARNERS = Sentence(9, "etcdserver: too many learner members in cluster")
NOT_SUPPORTED_FOR_LEARNER = Sentence(14, "etcdserver: rpc not supported for learner")

# ---- users, roles, tokens -------------------------------------------------------------------------------------------

ROOT_USER_NOT_EXIST = Sentence(9, "etcdserver: root user does not exist")
ROOT_ROLE_NOT_EXIST = Sentence(9, "etcdserver: root user does not have root role")
USER_ALREADY_EXIST = Sentence(9, "etcdserver: user name already exists")
USER_EMPTY = Sentence(3, "etcdserver: user name is empty")
USER_NOT_FOUND = Sentence(9, "etcdserver: user name not found")
ROLE_ALREADY_EXIST = Sentence(9, "etcdserver: role name already exists")
ROLE_NOT_FOUND = Sentence(9, "etcdserver: role name not found")
ROLE_EMPTY = Sentence(3, "etcdserver: role name is empty")
AUTH_FAILED = Sentence(3, "etcdserver: authentication failed, invalid user ID or password")
PERMISSION_NOT_GIVEN = Sentence(3, "etcdserver: permission not given")
PERMISSION_DENIED = Sentence(7, "etcdserver: permission denied")
ROLE_NOT_GRANTED = Sentence(9, "etcdserver: role is not granted to the user")
PERMISSION_NOT_GRANTED = Sentence(9, "etcdserver: permission is not granted to the role")
AUTH_NOT_ENABLED = Sentence(9, "etcdserver: authentication is not enabled")
INVALID_AUTH_TOKEN = Sentence(16, "etcdserver: invalid auth token")
INVALID_AUTH_MGMT = Sentence(3, "etcdserver: invalid auth management")
# these two have no code in etcd 3.5.1, so that clients get "unknown"
AUTH_OLD_REVISION = Sentence(2, "auth: revision in header is old")
AUTH_USER_EMPTY = Sentence(2, "auth: user name is empty")

# ---- the cluster ----------------------------------------------------------------------------------------------------

NO_LEADER = Sentence(14, "etcdserver: no leader")
NOT_LEADER = Sentence(9, "etcdserver: not leader")
LEADER_CHANGED = Sentence(14, "etcdserver: leader changed")
NOT_CAPABLE = Sentence(14, "etcdserver: not capable")
STOPPED = Sentence(14, "etcdserver: server stopped")
TIMEOUT = Sentence(14, "etcdserver: request timed out")
TIMEOUT_DUE_TO_LEADER_FAIL = Sentence(14, "etcdserver: request timed out, possibly due to previous leader failure")
UNHEALTHY = Sentence(14, "etcdserver: unhealthy cluster")
CORRUPT = Sentence(15, "etcdserver: corrupt cluster")
BAD_LEADER_TRANSFEREE = Sentence(9, "etcdserver: bad leader transferee")

# ---- downgrades -----------------------------------------------------------------------------------------------------

WRONG_DOWNGRADE_VERSION_FORMAT = Sentence(3, "etcdserver: wrong downgrade target version format")
INVALID_DOWNGRADE_TARGET_VERSION = Sentence(3, "etcdserver: invalid downgrade target version")
DOWNGRADE_IN_PROCESS = Sentence(9, "etcdserver: cluster has a downgrade job in progress")
NO_INFLIGHT_DOWNGRADE = Sentence(9, "etcdserver: no inflight downgrade job")

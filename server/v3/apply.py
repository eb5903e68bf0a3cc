"""A request that has come through Raft: who may ask for it, what it does, what it answers. On every node alike.

    InternalRaftRequest ──▶ its one field ──▶ permission ──▶ alarms ──▶ BRANCHES[field] ──▶ response, or Status

1. Permission is asked here once more, and for every field: between the request's way in and its entry the rights of its
   user may have changed, and then its auth revision is old. Only what nodes propose by themselves (OWN) is nobody's
   request.
2. What a branch raises is a Status. Whatever it wrote before that is taken back by who called `apply`: the keys by the
   state machine, the tables by their `undo`.
3. A branch follows from the entry and from what is in the store. It asks no clock, no chance, and not which node it is on;
   only the header of its response says who answers.
4. A field that this program doesn't know stops the node, should one come out of the log: another version may know it. The
   leader refuses it, should a node forward one (server/forwards.py).
5. Any other exception than Status is none of the request's own, and stops the node, too (server/v3/etcd.py).

Left out: requests that etcd sends through Raft to read (a range, the list of users): here they are reads.
Follows etcd 3.5's server/etcdserver/apply.go and apply_auth.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from server.errors import UndecodableEntry
from server.mvcc import Writes
from server.v3 import auth_entries, kv, lease_entries, standing, txn
from server.v3.alarms import Alarms
from server.v3.messages import Message
from server.v3.rpc import (
    CompactionRequest,
    CompactionResponse,
    DeleteRangeRequest,
    InternalRaftRequest,
    PutRequest,
    ResponseHeader,
    TxnRequest,
)

__all__ = ["BRANCHES", "OWN", "Branch", "Proposed", "Tables", "apply", "field_of"]


@dataclass(frozen=True, slots=True)
class Proposed:
    """The entry that a request is in, and who asked for it: "" and 0 where that was nobody, or authentication was off."""

    index: int
    term: int
    username: str = ""
    auth_revision: int = 0


class Guard(Protocol):
    """A table that may have something against a request: that of users and rights, that of alarms."""

    def check_entry(self, field: str, proposed: Proposed, request: Any, /) -> None:
        """Raises Status if it has."""


class Tables(Protocol):
    """What one node has beside the keys (server/v3/etcd.py), and what names it in an answer."""

    @property
    def auth(self) -> Guard: ...

    @property
    def alarms(self) -> Alarms: ...

    @property
    def leases(self) -> txn.Leases: ...

    def header(self, revision: int, /) -> ResponseHeader: ...


Branch = Callable[[Any, Proposed, Any, Writes], Message]
"""tables, proposed, request, writes: the response. Raises Status."""


def apply(tables: Tables, index: int, term: int, request: InternalRaftRequest, writes: Writes) -> Message:
    """Does what an entry asks for; the response to it. Raises Status; UndecodableEntry if it is of no kind that is known.

    index, term: of the entry. writes: has begun this entry. For the thread that applies.
    """
    field = field_of(request)
    if field not in BRANCHES:
        raise UndecodableEntry(index, term, "its request has none of the fields that are known here")
    who = request.header
    proposed = Proposed(index, term) if who is None else Proposed(index, term, who.username, who.auth_revision)
    message = getattr(request, field)
    if field not in OWN:
        tables.auth.check_entry(field, proposed, message)
    tables.alarms.check_entry(field, message)
    return BRANCHES[field](tables, proposed, message, writes)


def field_of(request: InternalRaftRequest) -> str:
    """The name of the field that is set, the first in the order of BRANCHES; "" if none of them is."""
    for field in BRANCHES:  # the most frequent first
        if getattr(request, field) is not None:
            return field
    return ""


# ---- keys -----------------------------------------------------------------------------------------------------------


def _put(tables: Tables, proposed: Proposed, request: PutRequest, writes: Writes) -> Message:
    if request.lease:
        tables.leases.require(request.lease)
    response = kv.put(writes, request)
    response.header = tables.header(writes.revision)
    return response


def _delete_range(tables: Tables, proposed: Proposed, request: DeleteRangeRequest, writes: Writes) -> Message:
    response = kv.delete_range(writes, request)
    response.header = tables.header(writes.revision)
    return response


def _txn(tables: Tables, proposed: Proposed, request: TxnRequest, writes: Writes) -> Message:
    response = txn.write(tables.leases, writes, request)
    response.header = tables.header(writes.revision)
    return response


def _compaction(tables: Tables, proposed: Proposed, request: CompactionRequest, writes: Writes) -> Message:
    with kv.revisions_checked():
        writes.compact(request.revision)
    return CompactionResponse(header=tables.header(writes.revision))


BRANCHES: Mapping[str, Branch] = {
    "put": _put,
    "txn": _txn,
    "delete_range": _delete_range,
    "compaction": _compaction,
    "own_compaction": _compaction,
    "lease_grant": lease_entries.grant,
    "lease_revoke": lease_entries.revoke,
    "lease_expire": lease_entries.expire,
    **auth_entries.BRANCHES,
    "alarm": standing.alarm,
    "cluster_member_attr_set": standing.member_attr_set,
    "downgrade_info_set": standing.downgrade_info_set,
}
OWN = frozenset({"lease_expire", "own_compaction", "cluster_member_attr_set"})  # what nodes propose by themselves

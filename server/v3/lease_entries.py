"""What an entry about leases does on every node: lines of server/v3/apply.py's table.

    lease_grant    the lease is there, for the seconds that its proposer has made of what was asked for
    lease_revoke   the lease is gone, and what hung on it
    lease_expire   the same, if it is still the lease that its leader saw expire; else nothing (server/v3/leases.py)

Follows etcd 3.5's server/etcdserver/apply.go.
"""

from __future__ import annotations

from typing import Protocol

from server.mvcc import Writes
from server.v3.leases import Leases
from server.v3.rpc import (
    LeaseExpireRequest,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    ResponseHeader,
)

__all__ = ["expire", "grant", "revoke"]


class Tables(Protocol):
    """What one node has beside the keys, as far as it is asked here (server/v3/etcd.py)."""

    @property
    def leases(self) -> Leases: ...

    def header(self, revision: int, /) -> ResponseHeader: ...


class Proposed(Protocol):
    """The entry."""

    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...


def grant(tables: Tables, proposed: Proposed, request: LeaseGrantRequest, writes: Writes) -> LeaseGrantResponse:
    """Grants a lease. Raises Status."""
    ttl = tables.leases.grant(request.ID, request.TTL, proposed.index)
    return LeaseGrantResponse(header=tables.header(writes.revision), ID=request.ID, TTL=ttl)


def revoke(tables: Tables, proposed: Proposed, request: LeaseRevokeRequest, writes: Writes) -> LeaseRevokeResponse:
    """Revokes one. Raises Status."""
    tables.leases.revoke(request.ID, writes)
    return LeaseRevokeResponse(header=tables.header(writes.revision))


def expire(tables: Tables, proposed: Proposed, request: LeaseExpireRequest, writes: Writes) -> LeaseRevokeResponse:
    """Revokes one that has expired, if nothing has changed since its leader decided that."""
    tables.leases.expire(request.ID, request.index, request.term, proposed.term, writes)
    return LeaseRevokeResponse(header=tables.header(writes.revision))

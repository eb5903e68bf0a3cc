"""Locks: a key in a queue (server/v3/concurrency.py), and an answer when it has come to its front.

    lock    a key <name>/<lease in hex>, created unless it is there ─▶ is it the oldest? ─▶ its key
                                                                        │ no
                                                                        └▶ waits for the one before it, then again
    unlock  deletes the key

The holder keeps the lock until it unlocks it, or its lease ends: the answer's key exists as long. What it writes elsewhere it
guards by a compare with that key's create revision, for a holder that stood still doesn't notice that its lease has ended.

Follows etcd 3.5's server/etcdserver/api/v3lock and client/v3/concurrency/mutex.go.
"""

from __future__ import annotations

import contextlib
from typing import Any

from server.errors import NodeError
from server.v3.concurrency import Client, as_client, created_at, first_created, kvs_of
from server.v3.method import Call, Caller, Method
from server.v3.rpc import (
    DeleteRangeRequest,
    LockRequest,
    LockResponse,
    PutRequest,
    RangeRequest,
    RequestOp,
    UnlockRequest,
    UnlockResponse,
)
from server.v3.status import EMPTY_KEY, Code, Status

__all__ = ["METHODS"]


def lock(etcd: Any, caller: Caller, request: LockRequest) -> LockResponse:
    """Returns when the lease holds the lock. Raises Status."""
    return as_client(lambda: _lock(Client(etcd, caller), request))


def _lock(client: Client, request: LockRequest) -> LockResponse:
    lease = client.session(request.lease)
    prefix = request.name + b"/"
    key = prefix + b"%x" % lease
    get, owner = RequestOp(request_range=RangeRequest(key=key)), RequestOp(request_range=first_created(prefix))
    put = RequestOp(request_put=PutRequest(key=key, lease=lease))
    answer = client.txn(created_at(key, 0), [put, owner], [get, owner])
    assert answer.header is not None
    mine, first = answer.responses
    created = answer.header.revision if answer.succeeded else kvs_of(mine)[0].create_revision
    owners = kvs_of(first)
    if not owners or owners[0].create_revision == created:
        return LockResponse(header=answer.header, key=key)
    try:
        client.wait_until_first(prefix, created)
        found = client.range(RangeRequest(key=key))
    except BaseException:
        with contextlib.suppress(Status, NodeError):
            client.alone().ask("delete_range", DeleteRangeRequest(key=key))
        raise
    if not found.kvs:
        raise Status(Code.UNKNOWN, "mutex: session is expired")
    return LockResponse(header=found.header, key=key)


def unlock(etcd: Any, caller: Caller, request: UnlockRequest) -> UnlockResponse:
    """Gives a lock back. Raises Status."""

    def run() -> UnlockResponse:
        if not request.key:
            raise Status(*EMPTY_KEY)
        deleted = Client(etcd, caller).ask("delete_range", DeleteRangeRequest(key=request.key))
        return UnlockResponse(header=deleted.header)

    return as_client(run)


METHODS: list[Method] = [Call("lock/lock", LockRequest, lock), Call("lock/unlock", UnlockRequest, unlock)]

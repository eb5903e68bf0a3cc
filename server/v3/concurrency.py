"""What locks and elections are made of: keys that live as long as a lease, in the order in which they were created.

    l/1234   created at 5   ◀── holds the lock, or leads
    l/10     created at 7   ◀── waits until l/1234 is gone
    l/77     created at 9   ◀── waits until l/10 is gone

A candidate puts a key <name>/<lease in hex>, which hangs on its lease, unless it is there already; and waits until no key
with the same beginning was created before its own. It waits for one key only, the newest of those: so one that goes wakes
one, and the holders follow in the order of their keys. All of it are ordinary transactions, reads and watches, which any
client could make by itself: nothing of the server's knows of locks.

Invariants:

1. A key's create revision is its place in the queue and its fencing token: it never changes, and no other one has it.
2. Who holds is told so only while its own key is there.
3. A client that goes away while it waits takes its key along. What it leaves if this node ends first, its lease takes.
4. Errors have etcd's sentence with code 2, whatever code they have elsewhere: to etcd's server, its own client is between.

Left out: etcd keeps the lease of a caller alive once while it makes the session; here nobody does but the client.
Follows etcd 3.5's client/v3/concurrency (key.go, session.go), which its server uses as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from server.errors import NodeError
from server.mvcc import Compacted
from server.v3 import status, txn
from server.v3.failures import check, confirmed, status_of
from server.v3.kv import check_range, range_of
from server.v3.lease_service import grant
from server.v3.method import CHECK_S, Caller
from server.v3.rpc import (
    Compare,
    KeyValue,
    LeaseGrantRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from server.v3.status import Code, Status

__all__ = ["Client", "as_client", "created_at", "first_created", "kvs_of"]

REQUEST_S = 7.0  # etcd's timeout of a request
SESSION_TTL_S = 60  # of a lease that the server makes for a candidate that names none
ASCEND, DESCEND = RangeRequest.SortOrder.ASCEND, RangeRequest.SortOrder.DESCEND
CREATE = RangeRequest.SortTarget.CREATE

Answer = TypeVar("Answer")


def as_client(run: Callable[[], Answer]) -> Answer:
    """What `run` returns; its errors as etcd's own client gives them: the sentence, and code 2."""
    try:
        return run()
    except Status as error:
        raise Status(Code.UNKNOWN, error.sentence) from None
    except NodeError as error:
        raise Status(Code.UNKNOWN, status_of(error).sentence) from None


def kvs_of(operation: ResponseOp) -> list[KeyValue]:
    """What a range in a transaction has found."""
    assert operation.response_range is not None
    return operation.response_range.kvs


def created_at(key: bytes, revision: int) -> Compare:
    """That a key was created at this revision; 0: that there is none."""
    return Compare(
        result=Compare.CompareResult.EQUAL,
        target=Compare.CompareTarget.CREATE,
        key=key,
        create_revision=revision,
    )


def first_created(prefix: bytes) -> RangeRequest:
    """Asks for the oldest key that begins with the prefix: the holder, the leader."""
    return RangeRequest(key=prefix, range_end=_end_of(prefix), limit=1, sort_order=ASCEND, sort_target=CREATE)


def _end_of(prefix: bytes) -> bytes:
    """Where the keys end that begin with a prefix, which ends in a slash."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Client:
    """What a candidate does to the store, on behalf of a caller. For the thread that serves the call."""

    def __init__(self, etcd: Any, caller: Caller) -> None:
        """Raises Status if the caller isn't who it says."""
        self._etcd = etcd
        self._identified = etcd.identify(caller)

    @property
    def _caller(self) -> Caller:
        """Who asks, by the users and roles that there are now: it may have waited for long. Raises Status."""
        known: Caller = self._etcd.auth.reidentify(self._identified)
        self._identified = known
        return known

    def alone(self) -> Client:
        """The same when the caller doesn't wait any more: for what is to be tidied up."""
        return Client(self._etcd, self._identified._replace(until=math.inf, gone=lambda: False))

    def session(self, lease: int) -> int:
        """The lease of a candidate: its own, or a new one."""
        if lease:
            return lease
        return grant(self._etcd, self._caller, LeaseGrantRequest(TTL=SESSION_TTL_S)).ID

    def txn(self, compare: Compare, success: list[RequestOp], failure: list[RequestOp] | None = None) -> TxnResponse:
        """A transaction. Raises Status, NodeError."""
        request = TxnRequest(compare=[compare], success=success, failure=failure or [])
        txn.check(request)
        response: TxnResponse = self._etcd.ask(self._caller, "txn", request)
        return response

    def ask(self, field: str, request: Any) -> Any:
        """Any other request that goes through the log. Raises Status, NodeError."""
        return self._etcd.ask(self._caller, field, request)

    def range(self, request: RangeRequest) -> RangeResponse:
        """A linearizable range. Raises Status, NodeError."""
        check_range(request)
        confirmed(self._etcd.barrier, self._identified, REQUEST_S, status.TIMEOUT)
        caller = self._caller
        with self._etcd.view() as view:
            self._etcd.auth.check_range(caller, request.key, request.range_end)
            response = range_of(view, request)
            self._etcd.auth.settled(caller)
        response.header = self._etcd.header(view.revision)
        return response

    def wait_until_first(self, prefix: bytes, revision: int) -> None:
        """Returns when no key that begins with the prefix was created before `revision`.

        Raises Status, also if the client goes away meanwhile; NodeError. A read, and a watch, for each key that has to go first.
        """
        newest_before = RangeRequest(
            key=prefix, range_end=_end_of(prefix), limit=1, sort_order=DESCEND, sort_target=CREATE,
            max_create_revision=revision - 1,
        )  # fmt: skip
        while True:
            found = self.range(newest_before)
            if not found.kvs:
                return
            assert found.header is not None
            self._wait_until_deleted(found.kvs[0], found.header.revision + 1)

    def _wait_until_deleted(self, kv: KeyValue, revision: int) -> None:
        """Returns when a key has been deleted at this revision or later, or the history isn't there any more. Raises Status."""
        self._etcd.auth.check_watch(self._caller, kv.key, b"")
        changes = self._etcd.subscribe(kv.key, b"", revision)
        try:
            while True:
                found = changes.next(CHECK_S)
                if found is not None and any(change.deleted for change in found):
                    return
                check(self._identified)
                if not self._etcd.node.alive():
                    raise Status(*status.STOPPED)
        except Compacted:
            return
        finally:
            changes.close()

"""Transactions: compares on one view, then one of two lists of operations, as one revision.

    if   compare, compare, …        all of them hold
    then operation, operation, …    range, put, delete, or a transaction
    else operation, operation, …

    check        what is wrong in itself: too many operations, no key, a key that is put twice           before it is proposed
    choose       the compares, those of inner transactions too, on the store as it is before any operation
    possible     what only the store can tell of the chosen operations: leases, revisions, keys that aren't there
    perform      the chosen operations, in their order; each sees what the ones before it have done

Invariants:

1. All compares come first, whatever their depth: an inner transaction doesn't see what an outer one does before it.
2. What is refused is refused by `possible`, before anything is written; but for an answer that is too large, and for what
   only the operations before it bring about. Then who called takes back what was written: it is done as a whole, or not at
   all.
3. A compare holds for a range if it holds for each key in it. A key or range that isn't there is compared as if all its
   numbers were 0; compares of its value never hold, not even "not equal".
4. A transaction whose operations are ranges only is a read: it needs no entry in the log. One with an inner transaction is
   none, even if that only reads; one without any operation is.

Of keys that are put twice, etcd checks: each put against the other puts and against the deletes of the same list, and those of
inner transactions, but not the puts of an inner one against the deletes of an outer list's other inner transactions that
come after it. A range "from this key on" (range_end of one zero byte) clashes with nothing: its end is compared as it
stands. Both are kept, because they can be seen: such a transaction succeeds.

Left out: nothing that the gateway can ask for.
Follows etcd 3.5's server/etcdserver/apply.go (Txn and what it calls) and api/v3rpc/key.go (checkTxnRequest, checkIntervals).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from server.limits import TXN_OPERATIONS_MAX
from server.mvcc import Record, View, Writes
from server.v3 import kv, status
from server.v3.rpc import Compare, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse
from server.v3.status import Status

__all__ = ["Leases", "check", "is_serializable", "only_reads", "read", "write"]

EQUAL, GREATER, LESS, NOT_EQUAL = range(4)  # Compare.CompareResult
VERSION, CREATE, MOD, VALUE, LEASE = range(5)  # Compare.CompareTarget
NOTHING = Record(key=b"", value=b"", create=0, mod=0, version=0, lease=0, sub=0)


class Leases(Protocol):
    """Which leases there are."""

    def require(self, lease: int, /) -> None:
        """Raises Status unless it is there."""


# ---- what is wrong in itself ------------------------------------------------------------------------------------------


def check(request: TxnRequest) -> None:
    """Raises Status for a transaction that is refused whatever the store has. O(n log n) in the operations, times the depth."""
    _check_shape(request, TXN_OPERATIONS_MAX)
    _check_changes(request.success)
    _check_changes(request.failure)


def _check_shape(request: TxnRequest, most: int) -> None:
    """At most `most` in each list, and so many less in the transactions below: that bounds the depth, too."""
    size = max(len(request.compare), len(request.success), len(request.failure))
    if size > most:
        raise Status(*status.TOO_MANY_OPS)
    for compare in request.compare:
        if not compare.key:
            raise Status(*status.EMPTY_KEY)
    for operation in (*request.success, *request.failure):
        if operation.request_range is not None:
            kv.check_range(operation.request_range)
        elif operation.request_put is not None:
            kv.check_put(operation.request_put)
        elif operation.request_delete_range is not None:
            kv.check_delete(operation.request_delete_range)
        elif operation.request_txn is not None:
            _check_shape(operation.request_txn, most - size)
        else:
            raise Status(*status.KEY_NOT_FOUND)


class _Changes:
    """What a list of operations may change: the keys that are put, and the ranges that are deleted.

    Ranges that meet are merged, so that they are disjoint and in order, and a key is looked for by bisection.
    """

    def __init__(self) -> None:
        self.puts: set[bytes] = set()
        self.starts: list[bytes] = []
        self.stops: list[bytes] = []

    def put(self, key: bytes) -> None:
        """One more put. Raises Status if the key is put or deleted already."""
        at = bisect_right(self.starts, key) - 1
        if key in self.puts or (at >= 0 and key < self.stops[at]):
            raise Status(*status.DUPLICATE_KEY)
        self.puts.add(key)

    def delete(self, start: bytes, stop: bytes) -> None:
        """One more range; one that ends where it begins, or before, has no key."""
        if start < stop:
            first, after = bisect_left(self.stops, start), bisect_right(self.starts, stop)
            if first < after:
                start, stop = min(start, self.starts[first]), max(stop, self.stops[after - 1])
            self.starts[first:after], self.stops[first:after] = [start], [stop]

    def delete_as(self, other: _Changes) -> None:
        """All that `other` deletes."""
        for start, stop in zip(other.starts, other.stops):
            self.delete(start, stop)


def _check_changes(operations: Sequence[RequestOp]) -> _Changes:
    """What the operations change; raises Status if they put a key twice, or put one that they delete, too.

    The two lists of an inner transaction may have a put in common: only one of them is done.
    """
    changes = _Changes()
    for operation in operations:
        delete = operation.request_delete_range
        if delete is not None:
            changes.delete(delete.key, delete.range_end or delete.key + b"\0")
    for operation in operations:
        if operation.request_txn is not None:
            success = _check_changes(operation.request_txn.success)
            failure = _check_changes(operation.request_txn.failure)
            for key in success.puts:
                changes.put(key)
            for key in failure.puts - success.puts:
                changes.put(key)
            changes.delete_as(success)
            changes.delete_as(failure)
    for operation in operations:
        if operation.request_put is not None:
            changes.put(operation.request_put.key)
    return changes


# ---- reads ----------------------------------------------------------------------------------------------------------


def only_reads(request: TxnRequest) -> bool:
    """Whether all operations of both lists are ranges."""
    return all(each.request_range is not None for each in (*request.success, *request.failure))


def is_serializable(request: TxnRequest) -> bool:
    """Whether a transaction that only reads may be answered from what this node has: if each range says so."""
    operations = (*request.success, *request.failure)
    return all(each.request_range is not None and each.request_range.serializable for each in operations)


def read(view: View, request: TxnRequest) -> TxnResponse:
    """The answer to a transaction that only reads, of this view. Raises Status. Requires: `check`, `only_reads`."""
    chosen = _choose(view, request)
    _possible_ranges(view, chosen)
    ranges = (each.request_range for each, _ in chosen.operations)
    room = kv.Room()
    responses = [ResponseOp(response_range=kv.range_of(view, each, room)) for each in ranges if each is not None]
    return TxnResponse(header=ResponseHeader(revision=view.revision), succeeded=chosen.succeeded, responses=responses)


# ---- writes ---------------------------------------------------------------------------------------------------------


def write(leases: Leases, writes: Writes, request: TxnRequest) -> TxnResponse:
    """Does a transaction, and answers it. Raises Status if it can't be done; who called takes back what it wrote.

    Requires: `check`.
    """
    chosen = _choose(writes, request)
    _possible_puts(leases, writes, chosen)
    _possible_ranges(writes, chosen)
    response = _perform(writes, chosen, kv.Room())
    response.header = ResponseHeader(revision=writes.revision)
    return response


class _Chosen(NamedTuple):
    """A transaction whose compares have been made: the operations of the list that is done; of inner ones, theirs."""

    succeeded: bool
    operations: list[tuple[RequestOp, _Chosen | None]]

    def all(self) -> Iterator[RequestOp]:
        """The operations in the order in which they are done."""
        for operation, inner in self.operations:
            if inner is None:
                yield operation
            else:
                yield from inner.all()


def _choose(view: View, request: TxnRequest) -> _Chosen:
    succeeded = all(_holds(view, compare) for compare in request.compare)
    return _Chosen(
        succeeded,
        [
            (each, None if each.request_txn is None else _choose(view, each.request_txn))
            for each in (request.success if succeeded else request.failure)
        ],
    )


def _possible_puts(leases: Leases, view: View, chosen: _Chosen) -> None:
    for operation in chosen.all():
        put = operation.request_put
        if put is not None:
            if (put.ignore_value or put.ignore_lease) and view.get(put.key) is None:
                raise Status(*status.KEY_NOT_FOUND)
            if put.lease:
                leases.require(put.lease)


def _possible_ranges(view: View, chosen: _Chosen) -> None:
    """A negative revision is refused if it lies before the compacted one; that of a store never compacted is -1."""
    for operation in chosen.all():
        revision = operation.request_range.revision if operation.request_range is not None else 0
        if revision > view.revision:
            raise Status(*status.FUTURE_REV)
        if revision and revision < view.compacted:
            raise Status(*status.COMPACTED)


def _perform(writes: Writes, chosen: _Chosen, room: kv.Room) -> TxnResponse:
    """The response of an inner transaction has an empty header."""
    responses = []
    for operation, inner in chosen.operations:
        if inner is not None:
            responses.append(ResponseOp(response_txn=_perform(writes, inner, room)))
        elif operation.request_range is not None:
            responses.append(ResponseOp(response_range=kv.range_of(writes, operation.request_range, room)))
        elif operation.request_put is not None:
            responses.append(ResponseOp(response_put=kv.put(writes, operation.request_put, room)))
        elif operation.request_delete_range is not None:
            deleted = kv.delete_range(writes, operation.request_delete_range, room)
            responses.append(ResponseOp(response_delete_range=deleted))
    return TxnResponse(header=ResponseHeader(), succeeded=chosen.succeeded, responses=responses)


# ---- compares -------------------------------------------------------------------------------------------------------


def _holds(view: View, compare: Compare) -> bool:
    """Whether a compare holds for all that its range has. O(keys in it, up to the first that it doesn't hold for)."""
    if not compare.range_end:
        record = view.get(compare.key)
        found: Iterable[Record] = () if record is None else (record,)
    else:
        found = view.range(compare.key, kv.stop_of(compare.range_end))
    some = False
    for record in found:
        some = True
        if not _compares(compare, record):
            return False
    return some or (compare.target != VALUE and _compares(compare, NOTHING))


def _compares(compare: Compare, record: Record) -> bool:
    """What the compare's target is set against is 0 or empty if the request has another field. A result that is none of the
    four holds always."""
    sign = _sign(compare, record)
    if compare.result == EQUAL:
        return sign == 0
    if compare.result == NOT_EQUAL:
        return sign != 0
    if compare.result == GREATER:
        return sign > 0
    return sign < 0 if compare.result == LESS else True


def _sign(compare: Compare, record: Record) -> int:
    """Below 0, 0 or above it, as the record's target is less than, equal to or greater than that of the request."""
    if compare.target == VALUE:
        value = compare.value or b""
        return (record.value > value) - (record.value < value)
    if compare.target == CREATE:
        return record.create - (compare.create_revision or 0)
    if compare.target == MOD:
        return record.mod - (compare.mod_revision or 0)
    if compare.target == VERSION:
        return record.version - (compare.version or 0)
    return record.lease - (compare.lease or 0) if compare.target == LEASE else 0

"""What a user may touch: ranges of keys, merged, and what a request touches.

    role reader  READ       [a, b)              reads   [a, c)
    role editor  READWRITE  [b, c), WRITE "x"   writes  [b, c), [x, x\\0)
                                │                  ▲
                                └── merged ────────┘        a range is permitted if one merged range holds all of it

    put                 writes its key; with prev_kv reads it, too; with a lease writes every key on that lease
    deleterange         writes its range; with prev_kv reads it, too
    txn                 reads the ranges of all compares, and needs what all operations of BOTH lists need, at any depth

Invariants:

1. What isn't permitted is denied: an empty set of ranges holds nothing.
2. A range is permitted as a whole or not at all: nobody gets the part of it that he may see, because then `count` would tell
   of the rest.
3. What a transaction touches doesn't depend on which of its lists will be done: an answer, or its absence, must not tell the
   outcome of a compare that the user may not make.

A permission has the three forms of a range in a request: one key (no range_end), [key, range_end), and from the key on
(range_end is one zero byte). One that ends where it begins, or before, permits nothing; nor does one of the empty key, which is
no key: who means all keys begins at the zero byte, as requests do.

The versions of etcd differ in how much of a transaction they look at, each later one at more. Here all of it counts: nested
transactions, and of each put its prev_kv and its lease.

Follows etcd's server/auth/range_perm_cache.go and server/etcdserver/apply_auth.go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from server.v3.rpc import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest

__all__ = [
    "FROM_KEY",
    "READ",
    "READWRITE",
    "WRITE",
    "Grant",
    "Need",
    "Permissions",
    "Ranges",
    "needs_of_delete",
    "needs_of_put",
    "needs_of_txn",
    "permissions_of",
]

READ, WRITE, READWRITE = range(3)  # authpb's Permission.Type
FROM_KEY = b"\0"  # a range_end: there is no end

Leased = Callable[[int], Iterable[bytes]]  # the keys on a lease, none if there is no such lease


class Grant(NamedTuple):
    """A permission of a role. kind: READ, WRITE or READWRITE; any other number permits nothing."""

    kind: int
    key: bytes
    range_end: bytes = b""


class Need(NamedTuple):
    """One range that a request reads or writes."""

    writes: bool
    key: bytes
    range_end: bytes = b""


class Ranges:
    """A set of keys: disjoint ranges in order, none of which meets the next one."""

    __slots__ = ("_ranges", "_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[bytes, bytes]]) -> None:
        """ranges: pairs of key and range_end, in any order, as permissions have them. O(n log n)."""
        self._starts: list[bytes] = []
        self._stops: list[bytes | None] = []  # None, which can only be the last: no end
        self._ranges = [(key, stop) for key, stop in map(_as_interval, ranges) if key and (stop is None or key < stop)]
        for start, stop in sorted(self._ranges, key=lambda each: each[0]):
            last = self._stops[-1] if self._stops else b""
            if not self._stops or (last is not None and last < start):
                self._starts.append(start)
                self._stops.append(stop)
            elif last is not None and (stop is None or stop > last):
                self._stops[-1] = stop

    def hold(self, key: bytes, range_end: bytes = b"") -> bool:
        """Whether all keys of a request's range are in the set. O(log n).

        A range of no keys is held where `key` is. If it ends before that, none of the ranges that the set was made of may lie
        between its ends: there, etcd's search in its tree doesn't go on.
        """
        start, stop = _as_interval((key, range_end))
        if stop is not None and stop < start:
            between = any(stop <= each and end is not None and end <= start for each, end in self._ranges)
            return not between and self.hold(key)
        at = bisect_right(self._starts, start) - 1
        if at < 0:
            return False
        end = self._stops[at]
        return end is None or (stop is not None and stop <= end and start < end)


def _as_interval(ends: tuple[bytes, bytes]) -> tuple[bytes, bytes | None]:
    """Start and stop of what key and range_end mean in a request; None for no stop."""
    key, range_end = ends
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == FROM_KEY else range_end


class Permissions(NamedTuple):
    """What a user may read and write, of all his roles."""

    reads: Ranges
    writes: Ranges

    def allow(self, need: Need) -> bool:
        """Whether what a request needs is permitted. O(log n)."""
        return (self.writes if need.writes else self.reads).hold(need.key, need.range_end)


def permissions_of(grants: Iterable[Grant]) -> Permissions:
    """What these permissions come to together. O(n log n)."""
    reads, writes = [], []
    for kind, key, range_end in grants:
        if kind in (READ, READWRITE):
            reads.append((key, range_end))
        if kind in (WRITE, READWRITE):
            writes.append((key, range_end))
    return Permissions(Ranges(reads), Ranges(writes))


# ---- what requests need ---------------------------------------------------------------------------------------------


def needs_of_put(request: PutRequest, leased: Leased) -> Iterator[Need]:
    """A put's needs: who hangs a key on a lease gets to delete all keys on it, so he must be permitted to write them."""
    yield Need(True, request.key)
    if request.lease:
        for key in leased(request.lease):
            yield Need(True, key)
    if request.prev_kv:
        yield Need(False, request.key)


def needs_of_delete(request: DeleteRangeRequest) -> Iterator[Need]:
    """A delete's needs."""
    yield Need(True, request.key, request.range_end)
    if request.prev_kv:
        yield Need(False, request.key, request.range_end)


def needs_of_txn(request: TxnRequest, leased: Leased) -> Iterator[Need]:
    """The needs of a transaction and of those in it. Requires: its depth is bounded, which decoding it has seen to."""
    for compare in request.compare:
        yield Need(False, compare.key, compare.range_end)
    for operation in (*request.success, *request.failure):
        yield from _needs_of_operation(operation, leased)


def _needs_of_operation(operation: RequestOp, leased: Leased) -> Iterator[Need]:
    if operation.request_range is not None:
        yield Need(False, operation.request_range.key, operation.request_range.range_end)
    if operation.request_put is not None:
        yield from needs_of_put(operation.request_put, leased)
    if operation.request_delete_range is not None:
        yield from needs_of_delete(operation.request_delete_range)
    if operation.request_txn is not None:
        yield from needs_of_txn(operation.request_txn, leased)

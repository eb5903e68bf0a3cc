"""Ranges, puts, deletes and compactions: what each one makes of the store, and what it answers.

    [key, range_end)     range_end ""     the one key
                         range_end "\\0"   from the key on, to the end
                         key, range_end "\\0"   everything: no key is smaller

A range is answered in this order; each step sees what the one before it has left:

    the keys of the range at `revision`   they are what `count` counts, whatever becomes of them
    filters                               min and max of mod and create revision
    order                                 by a target; without an order but with a target other than the key: ascending
    limit                                 `more` says that it took some away
    keys_only                             their values are left out

Invariants:

1. What is refused whatever the store has, `check_range`, `check_put`, `check_delete` refuse, before anything is proposed; a
   transaction asks the same of its operations. The other functions may rely on it.
2. A read is of one view: its header's revision and its content are of the same moment.
3. Only the answer of the whole request says which cluster and node gave it; that of an operation in a transaction has a
   header with nothing but the revision.
4. A negative revision is the newest one, and a negative limit none.

Two things that etcd does and nobody would guess are kept: with a limit, a target, and no order, the limit is applied first,
by key, and what it has left is sorted; and an order that is none of the three sorts nothing. A target that is none of the
five is refused, as later releases of 3.5 do.

Left out: ranges of any size. etcd's own limit is 2 GiB, of what gRPC carries; here an answer has RANGE_BYTES_MAX, those of a
transaction all together (`Room`), so that no request takes the memory of the node.
Follows etcd 3.5's server/etcdserver/apply.go and api/v3rpc/key.go.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import attrgetter
from typing import Any

from server.limits import KEY_BYTES_MAX, RANGE_BYTES_MAX
from server.mvcc import Compacted, FutureRevision, Record, View, Writes
from server.v3 import status
from server.v3.rpc import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    KeyValue,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
)
from server.v3.status import Status

__all__ = [
    "Room",
    "check_delete",
    "check_put",
    "check_range",
    "delete_range",
    "key_value",
    "put",
    "range_of",
    "revisions_checked",
    "stop_of",
]

VERSION_BYTES = 128  # what one version takes beside its key and value, in the node's memory
ASCEND, DESCEND = 1, 2  # RangeRequest.SortOrder; 0 is NONE
KEY = 0  # RangeRequest.SortTarget
TARGETS: dict[int, Callable[[Record], Any]] = {
    KEY: attrgetter("key"),
    1: attrgetter("version"),
    2: attrgetter("create"),
    3: attrgetter("mod"),
    4: attrgetter("value"),
}


def check_range(request: RangeRequest) -> None:
    """Raises Status for a range without a key, and for one that is to be sorted by what isn't there."""
    if not request.key:
        raise Status(*status.EMPTY_KEY)
    if request.sort_target not in TARGETS:
        raise Status(*status.INVALID_SORT_OPTION)


def check_put(request: PutRequest) -> None:
    """Raises Status for a put without a key, with one that no store can hold, or with what it says to ignore."""
    if not request.key:
        raise Status(*status.EMPTY_KEY)
    if len(request.key) > KEY_BYTES_MAX:
        raise Status(
            status.Code.INVALID_ARGUMENT,
            f"a key has at most {KEY_BYTES_MAX:,} bytes in this store, and this one has {len(request.key):,}",
        )
    if request.ignore_value and request.value:
        raise Status(*status.VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise Status(*status.LEASE_PROVIDED)


def check_delete(request: DeleteRangeRequest) -> None:
    """Raises Status for a delete without a key."""
    if not request.key:
        raise Status(*status.EMPTY_KEY)


def stop_of(range_end: bytes) -> bytes | None:
    """Where the range of a request ends that has a range_end: the first key after it, None if it goes to the end."""
    return None if range_end == b"\0" else range_end


@contextmanager
def revisions_checked() -> Iterator[None]:
    """Whatever asks for a revision that is gone or yet to come is refused in etcd's words."""
    try:
        yield
    except Compacted:
        raise Status(*status.COMPACTED) from None
    except FutureRevision:
        raise Status(*status.FUTURE_REV) from None


class Room:
    """How many bytes the answer to one request may still have."""

    def __init__(self, left: int = RANGE_BYTES_MAX) -> None:
        self.left = left

    def take(self, record: Record) -> None:
        """One more version is in the answer. Raises Status if that is too much."""
        self.left -= len(record.key) + len(record.value) + VERSION_BYTES
        if self.left < 0:
            raise Status(
                status.Code.RESOURCE_EXHAUSTED,
                f"an answer has at most {RANGE_BYTES_MAX:,} bytes of keys and values: ask for less, with a limit",
            )


# ---- range ----------------------------------------------------------------------------------------------------------


def range_of(view: View, request: RangeRequest, room: Room | None = None) -> RangeResponse:
    """The answer to a range, of this view. Raises Status for a revision that is gone or yet to come.

    room: what is left for it, if others are in the same answer. Requires: `check_range`. O(keys in the range); values only of what is answered, sorted or filtered.
    """
    header, room = ResponseHeader(revision=view.revision), room or Room()
    with revisions_checked():
        if request.count_only:
            return RangeResponse(header=header, count=_count(view, request))
        if not request.range_end or request.limit <= 0 or request.sort_order or _filters(request):
            found, count = _all(view, request, room)
        else:
            found, count = _first(view, request, room)
    order = request.sort_order or (ASCEND if request.sort_target != KEY else 0)
    if order in (ASCEND, DESCEND):
        found.sort(key=TARGETS[request.sort_target], reverse=order == DESCEND)
    more = 0 < request.limit < len(found)
    if more:
        del found[request.limit :]
    kvs = [key_value(record, b"" if request.keys_only else None) for record in found]
    return RangeResponse(header=header, kvs=kvs, more=more, count=count)


def _all(view: View, request: RangeRequest, room: Room) -> tuple[list[Record], int]:
    """The records that pass the filters, in the order of their keys, and how many there were before."""
    found, count = [], 0
    for record in _there(view, request, max(request.revision, 0)):
        count += 1
        if _passes(request, record):
            room.take(record)
            found.append(record)
    return found, count


def _first(view: View, request: RangeRequest, room: Room) -> tuple[list[Record], int]:
    """One record more than the limit, if there are so many, and how many there are in all: the rest is only counted."""
    stop, revision = stop_of(request.range_end), max(request.revision, 0)
    found = []
    most = min(request.limit, sys.maxsize - 1) + 1  # islice takes no more, and a client may send the greatest int64
    for record in islice(view.range(request.key, stop, revision), most):
        room.take(record)
        found.append(record)
    if len(found) <= request.limit:
        return found, len(found)
    return found, len(found) + view.count(found[-1].key + b"\0", stop, revision)


def _count(view: View, request: RangeRequest) -> int:
    revision = max(request.revision, 0)
    if not request.range_end:
        return int(view.get(request.key, revision) is not None)
    return view.count(request.key, stop_of(request.range_end), revision)


def _filters(request: RangeRequest) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _passes(request: RangeRequest, record: Record) -> bool:
    """Whether no filter takes the record away; 0 is no filter."""
    return not (
        (request.max_mod_revision and record.mod > request.max_mod_revision)
        or record.mod < request.min_mod_revision
        or (request.max_create_revision and record.create > request.max_create_revision)
        or record.create < request.min_create_revision
    )


def key_value(record: Record, value: bytes | None = None) -> KeyValue:
    """A version as the answers have it; with this value in place of its own, if one is given."""
    return KeyValue(
        record.key, record.create, record.mod, record.version, record.value if value is None else value, record.lease
    )


# ---- put, delete ----------------------------------------------------------------------------------------------------


def put(writes: Writes, request: PutRequest, room: Room | None = None) -> PutResponse:
    """Puts a key; raises Status if it has to be there already, and isn't: then nothing is done.

    room: as of `range_of`. Requires: `check_put`, and that its lease, if it has one, is there.
    """
    value, lease = request.value, request.lease
    before = None
    if request.ignore_value or request.ignore_lease or request.prev_kv:
        before = writes.get(request.key)
    if request.ignore_value or request.ignore_lease:
        if before is None:
            raise Status(*status.KEY_NOT_FOUND)
        value = before.value if request.ignore_value else value
        lease = before.lease if request.ignore_lease else lease
    prev_kv = None
    if request.prev_kv and before is not None:
        (room or Room()).take(before)
        prev_kv = key_value(before)
    writes.put(request.key, value, lease)
    return PutResponse(header=ResponseHeader(revision=writes.revision), prev_kv=prev_kv)


def delete_range(writes: Writes, request: DeleteRangeRequest, room: Room | None = None) -> DeleteRangeResponse:
    """Deletes what there is of a range. room: as of `range_of`. Raises Status. Requires: `check_delete`. O(keys in it)."""
    room = room or Room()
    keys, prev_kvs = [], []
    for record in _there(writes, request):
        keys.append(record.key)
        if request.prev_kv:
            room.take(record)
            prev_kvs.append(key_value(record))
    for key in keys:
        writes.delete(key)
    return DeleteRangeResponse(header=ResponseHeader(revision=writes.revision), deleted=len(keys), prev_kvs=prev_kvs)


def _there(view: View, request: RangeRequest | DeleteRangeRequest, revision: int = 0) -> Iterable[Record]:
    """The versions in a range."""
    if request.range_end:
        return view.range(request.key, stop_of(request.range_end), revision)
    record = view.get(request.key, revision)
    return () if record is None else (record,)

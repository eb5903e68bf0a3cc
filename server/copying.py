"""All keys and leases of one cluster in another one: `metcd export` and `metcd import`, through the v3 gateways of both.

    source at revision R ──▶ leases, then pages of keys ──▶ what differs is written ──▶ target
              └─────────────────────── hash ─────────── = ────────── hash ───────────────┘

The target has to be empty, but for what an earlier run has left there: a mark, the key MARK, which is written before anything
else and deleted at the end. It says which cluster it comes from, at which revision, and up to which key it is done.

1. All is read at one revision, whatever is written to the source meanwhile; what comes later isn't copied, and is told.
2. A page and the mark that says so are written in one transaction or after each other in this order, so that a run that is
   killed is gone on with where it was. If the source has compacted that revision since, also during the comparison, the copy
   begins again at the current one, REVISIONS_MAX times at most, and writes what differs: that includes deleting what the
   source doesn't have.
3. A lease keeps its ID and begins anew with its whole time, as it does when a cluster gets another leader. It is kept alive as
   long as the copying takes. Keys of leases that have ended are left out: the source is about to delete them.
4. The end is a comparison: both sides are read once more, counted and hashed, key, value and lease.

Left out: the history, the versions and revisions of keys, users and roles. A target gives them anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from server.errors import NoLeader, OutcomeUnknown
from server.etcd_client import EtcdClient
from server.etcd_pages import FIRST_PAGE_KEYS, next_page_keys
from server.v3 import rpc, status
from server.v3.status import Status

__all__ = ["MARK", "CopyRefused", "Copying", "Moved", "Report"]

MARK = b"_/metcd/copied-from"
WRITE_KEYS = 100  # etcd's limit is 128 operations in a transaction
WRITE_BYTES = 512 << 10  # and 1.5 MiB
ATTEMPTS = (
    20  # of each call, while a cluster has no leader; also of a write whose outcome is unknown: it does no harm twice
)
PAUSE_S = 0.5
REVISIONS_MAX = 5  # at which one run copies, as the source compacts one after the other
LEASE_RENEWALS = 3  # in the time of a lease

M = TypeVar("M", bound=rpc.Message)
_Found = list[rpc.KeyValue]


class Moved(NamedTuple):
    """How far a copy is: what is done with keys, with how many, of how many (in this run), and at which revision of the source
    they are read; 0: in the target, as it is."""

    what: str
    keys: int
    all_keys: int
    revision: int


class CopyRefused(Exception):
    """The copy can't be made; the sentence says why, and what to do."""


@dataclass
class Report:
    """What a copy has done. revision: the source's that was copied; source_revision: the source's at the end."""

    revision: int = 0
    source_revision: int = 0
    keys: int = 0
    leases: int = 0
    written: int = 0
    deleted: int = 0
    left_out: int = 0
    resumed: bool = False
    verified: bool = False
    target_keys: int = 0
    sha256: str = ""
    target_sha256: str = ""


@dataclass
class _Mark:
    """What the mark in the target says: the source's cluster, the revision, and the first key that isn't done."""

    source: int
    revision: int
    next: bytes

    def encode(self) -> bytes:
        return json.dumps({"source": self.source, "revision": self.revision, "next": self.next.hex()}).encode()

    @staticmethod
    def decode(text: bytes) -> _Mark:
        said: dict[str, Any] = json.loads(text)
        return _Mark(int(said["source"]), int(said["revision"]), bytes.fromhex(said["next"]))


class Copying:
    """One copy. `run` once, in one thread; `told` gets sentences about what is done, `moved` how far it is, after each page."""

    def __init__(
        self,
        source: EtcdClient,
        target: EtcdClient,
        told: Callable[[str], None],
        moved: Callable[[Moved], object] = lambda moved: None,
    ) -> None:
        self._source, self._target, self._told, self._moved = source, target, told, moved
        self._leases: dict[int, int] = {}  # the source's that live, and the time that each was granted, in seconds
        self._renew_at: dict[int, float] = {}
        self.report = Report()

    def run(self) -> Report:
        """Copies, compares, and says so. Raises CopyRefused, Status, NodeError; then it can be run again."""
        header = _header(self._ask(self._source, "kv/range", rpc.RangeRequest(key=b"\0"), rpc.RangeResponse))
        mark = self._begin(header)
        for left in reversed(range(REVISIONS_MAX)):
            self._copy_leases()
            try:
                self._copy_keys(mark)
                self._verify(mark)
                break
            except Status as refused:
                if (refused.code, refused.sentence) != status.COMPACTED or not left:
                    raise
            newest = _header(self._ask(self._source, "kv/range", rpc.RangeRequest(key=b"\0"), rpc.RangeResponse))
            mark = _Mark(mark.source, newest.revision, b"\0")
            self._told(f"the source has compacted that revision: once more, at revision {mark.revision:,}")
        if self.report.verified:
            self._write([rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=MARK))])
        else:  # the next run looks at every key again
            self._write([_put(MARK, _Mark(mark.source, mark.revision, b"\0").encode())])
        return self.report

    def _begin(self, header: rpc.ResponseHeader) -> _Mark:
        """The mark of an earlier run, or a new one in an empty target. Raises CopyRefused."""
        whole = rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        count = self._ask(self._target, "kv/range", whole, rpc.RangeResponse)
        if _header(count).cluster_id == header.cluster_id:
            raise CopyRefused("source and target are the same cluster: nothing was done")
        found = self._ask(self._target, "kv/range", rpc.RangeRequest(key=MARK), rpc.RangeResponse).kvs
        if found:
            try:
                mark = _Mark.decode(found[0].value)
            except (ValueError, TypeError, KeyError, RecursionError):
                raise CopyRefused(
                    f"the target has a key {MARK.decode()} that no copy has written: nothing was done; delete it"
                ) from None
            if mark.source != header.cluster_id:
                raise CopyRefused(
                    f"the target is being filled from another cluster ({mark.source:x}, and this is {header.cluster_id:x}): "
                    "nothing was done"
                )
            self.report.resumed = True
            self._told(f"an earlier copy is gone on with, at revision {mark.revision:,}")
        elif count.count:
            raise CopyRefused(
                f"the target has {count.count:,} keys, and a copy needs an empty one: nothing was done; delete them, or give "
                "a new cluster"
            )
        else:
            mark = _Mark(header.cluster_id, header.revision, b"\0")
            self._write([_put(MARK, mark.encode())])
        self.report.revision = mark.revision
        return mark

    # ---- leases -----------------------------------------------------------------------------------------------------

    def _copy_leases(self) -> None:
        """Grants in the target what lives in the source, with the same IDs; what was granted before, by this run or an earlier
        one, and has ended in the source since then, ends with its keys. Raises CopyRefused."""
        granted, self._leases, self._renew_at = self._leases, {}, {}
        listed = self._ask(self._source, "lease/leases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse)
        for lease in listed.leases:
            granted_s = self._granted_s(self._source, lease.ID)
            if granted_s <= 0:
                continue  # it has ended meanwhile
            if self._granted_s(self._target, lease.ID) <= 0:
                self._grant(lease.ID, granted_s)
            elif not (self.report.resumed or lease.ID in granted):
                raise CopyRefused(
                    f"the target has no keys, but a lease {lease.ID:x}, as the source has: nothing was copied"
                )
            self._leases[lease.ID] = granted_s
            self._renew_at[lease.ID] = 0.0
        self.report.leases = len(self._leases)
        if self.report.resumed or granted:
            present = self._ask(self._target, "lease/leases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse)
            for lease in present.leases:
                if lease.ID not in self._leases:
                    self._revoke(lease.ID)

    def _granted_s(self, client: EtcdClient, lease: int) -> int:
        """The time that a lease was granted; 0 if there is no such lease."""
        asked = rpc.LeaseTimeToLiveRequest(ID=lease)
        try:
            left = self._ask(client, "lease/timetolive", asked, rpc.LeaseTimeToLiveResponse)
        except Status as refused:
            if (refused.code, refused.sentence) == status.LEASE_NOT_FOUND:
                return 0
            raise
        return left.grantedTTL if left.TTL > 0 else 0

    def _grant(self, lease: int, granted_s: int) -> None:
        granting = rpc.LeaseGrantRequest(ID=lease, TTL=granted_s)
        try:
            self._patiently(lambda: self._target.tell("lease/grant", granting, rpc.LeaseGrantResponse))
        except Status as refused:
            if (refused.code, refused.sentence) != status.LEASE_EXIST:
                raise
            # an attempt whose outcome was unknown was carried out: a moment ago there was no such lease

    def _revoke(self, lease: int) -> None:
        revoking = rpc.LeaseRevokeRequest(ID=lease)
        try:
            self._patiently(lambda: self._target.tell("lease/revoke", revoking, rpc.LeaseRevokeResponse))
        except Status as refused:
            if (refused.code, refused.sentence) != status.LEASE_NOT_FOUND:
                raise

    def _renew(self) -> None:
        """Keeps the target's leases alive: each a few times in its own time."""
        now = time.monotonic()
        for lease, at in self._renew_at.items():
            if at <= now:
                alive = rpc.LeaseKeepAliveRequest(ID=lease)
                self._ask(self._target, "lease/keepalive", alive, rpc.LeaseKeepAliveResponse)
                self._renew_at[lease] = now + self._leases[lease] / LEASE_RENEWALS

    # ---- keys -------------------------------------------------------------------------------------------------------

    def _copy_keys(self, mark: _Mark) -> None:
        """Makes the target's keys those of the source from mark.next on."""
        self.report.revision = mark.revision
        done = 0
        for page, stop, left in self._pages(self._source, mark.next, mark.revision):
            there = {pair.key: pair for found, *_ in self._pages(self._target, mark.next, 0, stop) for pair in found}
            wanted = self._alive(page)
            changes = [
                _put(pair.key, pair.value, pair.lease) for pair in wanted if not _same(pair, there.get(pair.key))
            ]
            surplus = sorted(there.keys() - {pair.key for pair in wanted})
            deletes = [rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key)) for key in surplus]
            mark.next = stop or b""
            for part in _parts([*changes, *deletes, _put(MARK, mark.encode())]):
                self._write(part)
            self.report.written += len(changes)
            self.report.deleted += len(deletes)
            self._renew()
            self._moved(Moved("copied", done + len(page), done + left, mark.revision))
            done += len(page)

    def _alive(self, pairs: Iterable[rpc.KeyValue]) -> _Found:
        """Those that belong to no lease, or to one that lives; without the mark."""
        return [pair for pair in pairs if pair.key != MARK and (not pair.lease or pair.lease in self._leases)]

    def _pages(
        self, client: EtcdClient, start: bytes, revision: int, stop: bytes | None = None
    ) -> Iterator[tuple[_Found, bytes | None, int]]:
        """The keys from `start` to `stop` (None: all that follow) in pages, each with the key at which the next begins (after
        the last: `stop`), and how many keys there are from this page on. start b"": there are no more."""
        limit = FIRST_PAGE_KEYS
        while start:
            asked = rpc.RangeRequest(key=start, range_end=stop or b"\0", limit=limit, revision=revision)
            found = self._ask(client, "kv/range", asked, rpc.RangeResponse)
            following = found.kvs[-1].key + b"\0" if found.more else None
            page = [pair for pair in found.kvs if client is self._source or pair.key != MARK]
            yield page, following or stop, found.count - (client is self._target and start <= MARK)
            if following is None:
                return
            start = following
            limit = next_page_keys(limit, found.kvs)

    def _write(self, operations: list[rpc.RequestOp]) -> None:
        """One transaction, until it is known to be done."""
        self._patiently(lambda: self._target.tell("kv/txn", rpc.TxnRequest(success=operations), rpc.TxnResponse))

    # ---- calls ------------------------------------------------------------------------------------------------------

    def _ask(self, client: EtcdClient, path: str, request: rpc.Message, response: type[M]) -> M:
        return self._patiently(lambda: client.ask(path, request, response))

    def _patiently(self, call: Callable[[], M]) -> M:
        """Repeats a call that may be repeated, as long as an election may take; and says so, so that nobody wonders."""
        for attempt in range(ATTEMPTS - 1):
            try:
                return call()
            except (OutcomeUnknown, NoLeader) as error:
                if not attempt:
                    self._told(f"{error}: it is tried again, {ATTEMPTS - 1} times at most")
                time.sleep(PAUSE_S)
        return call()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _verify(self, mark: _Mark) -> None:
        """Reads both sides, and compares what they are."""
        report = self.report
        report.keys, report.sha256, report.left_out = self._hash(self._source, mark.revision)
        report.target_keys, report.target_sha256, _ = self._hash(self._target, 0)
        report.verified = (report.keys, report.sha256) == (report.target_keys, report.target_sha256)
        now = self._ask(self._source, "kv/range", rpc.RangeRequest(key=b"\0"), rpc.RangeResponse)
        report.source_revision = _header(now).revision

    def _hash(self, client: EtcdClient, revision: int) -> tuple[int, str, int]:
        """How many keys there are, their hash, and how many were left out."""
        hashed = hashlib.sha256()
        count = left_out = done = 0
        what = "compared in the source" if client is self._source else "compared in the target"
        for page, _, left in self._pages(client, b"\0", revision):
            alive = self._alive(page)
            left_out += sum(pair.key != MARK for pair in page) - len(alive)
            count += len(alive)
            for pair in alive:
                for part in (pair.key, pair.value, pair.lease.to_bytes(8, "big", signed=True)):
                    hashed.update(len(part).to_bytes(8, "big") + part)
            self._renew()
            self._moved(Moved(what, done + len(page), done + left, revision))
            done += len(page)
        return count, hashed.hexdigest(), left_out


def _header(answer: rpc.RangeResponse) -> rpc.ResponseHeader:
    return answer.header or rpc.ResponseHeader()


def _put(key: bytes, value: bytes, lease: int = 0) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))


def _same(pair: rpc.KeyValue, there: rpc.KeyValue | None) -> bool:
    return there is not None and (there.value, there.lease) == (pair.value, pair.lease)


def _parts(operations: list[rpc.RequestOp]) -> Iterator[list[rpc.RequestOp]]:
    """Operations in parts that one transaction takes; a value that is larger travels alone."""
    part: list[rpc.RequestOp] = []
    size = 0
    for operation in operations:
        put = operation.request_put
        bytes_ = len(put.key) + len(put.value) if put is not None else 0
        if part and (len(part) == WRITE_KEYS or size + bytes_ > WRITE_BYTES):
            yield part
            part, size = [], 0
        part.append(operation)
        size += bytes_
    if part:
        yield part

"""Elections: a lock whose keys have values (server/v3/concurrency.py). Who holds it leads, and its value is what it says.

    campaign   as lock/lock, with a value; again with another value: that is proclaimed
    proclaim   another value, if the key is still the one that was created then
    leader     the oldest key
    observe    the oldest key, each value that it is given, and when it is gone the next one; for ever
    resign     deletes the key, if it is still the one that was created then

observe:   look ─ a leader ─▶ told ─▶ watch its key ─ put ─▶ told
            ▲ └─ none ─▶ watch the name ─ the first put ─▶ told ─▶ watch its key
            └──────────────────────────────── deleted ◀────────────────┘

An observer is told of every value that a leader has had from the look on; of leaders that came and went between a deletion
and the look after it, it hears nothing. Follows etcd 3.5's server/etcdserver/api/v3election and
client/v3/concurrency/election.go.
"""

from __future__ import annotations

import contextlib
from typing import Any

from server.errors import NodeError
from server.v3.concurrency import Client, as_client, created_at, first_created, kvs_of
from server.v3.kv import key_value
from server.v3.method import Call, Caller, Incoming, Method, Out, Stream
from server.v3.rpc import (
    CampaignRequest,
    CampaignResponse,
    DeleteRangeRequest,
    KeyValue,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ProclaimResponse,
    PutRequest,
    RangeRequest,
    RequestOp,
    ResignRequest,
    ResignResponse,
    ResponseHeader,
    TxnResponse,
)
from server.v3.status import Code, Sentence, Status
from server.v3.watch_hub import Block, Watcher

__all__ = ["METHODS"]

LEADER_MISSING = Sentence(Code.UNKNOWN, '"leader" field must be provided')
NOT_LEADER = Sentence(Code.UNKNOWN, "election: not leader")
NO_LEADER = Sentence(Code.UNKNOWN, "election: no leader")


def campaign(etcd: Any, caller: Caller, request: CampaignRequest) -> CampaignResponse:
    """Returns when the lease leads. Raises Status."""
    return as_client(lambda: _campaign(Client(etcd, caller), request))


def _campaign(client: Client, request: CampaignRequest) -> CampaignResponse:
    lease = client.session(request.lease)
    prefix = request.name + b"/"
    key = prefix + b"%x" % lease
    put = RequestOp(request_put=PutRequest(key=key, value=request.value, lease=lease))
    answer = client.txn(created_at(key, 0), [put], [RequestOp(request_range=RangeRequest(key=key))])
    header = answer.header
    assert header is not None
    leader = LeaderKey(name=request.name, key=key, rev=header.revision, lease=lease)
    try:
        if not answer.succeeded:
            [kv] = kvs_of(answer.responses[0])
            leader.rev = kv.create_revision
            if kv.value != request.value:
                _proclaim(client, leader, request.value)
        client.wait_until_first(prefix, leader.rev)
    except BaseException:
        with contextlib.suppress(Status, NodeError):
            _resign(client.alone(), leader)
        raise
    return CampaignResponse(header=header, leader=leader)


def proclaim(etcd: Any, caller: Caller, request: ProclaimRequest) -> ProclaimResponse:
    """The leader says something else. Raises Status."""

    def run() -> ProclaimResponse:
        client, leader = _resumed(etcd, caller, request.leader)
        return ProclaimResponse(header=_proclaim(client, leader, request.value).header)

    return as_client(run)


def _proclaim(client: Client, leader: LeaderKey, value: bytes) -> TxnResponse:
    put = RequestOp(request_put=PutRequest(key=leader.key, value=value, lease=leader.lease))
    answer = client.txn(created_at(leader.key, leader.rev), [put])
    if not answer.succeeded:
        raise Status(*NOT_LEADER)
    return answer


def resign(etcd: Any, caller: Caller, request: ResignRequest) -> ResignResponse:
    """The leader leads no longer; no error if it hasn't for some time. Raises Status."""

    def run() -> ResignResponse:
        return ResignResponse(header=_resign(*_resumed(etcd, caller, request.leader)).header)

    return as_client(run)


def _resign(client: Client, leader: LeaderKey) -> TxnResponse:
    delete = RequestOp(request_delete_range=DeleteRangeRequest(key=leader.key))
    return client.txn(created_at(leader.key, leader.rev), [delete])


def _resumed(etcd: Any, caller: Caller, leader: LeaderKey | None) -> tuple[Client, LeaderKey]:
    """What a leader goes on with. One that names no lease gets a new one, as every candidate does; etcd's session makes it."""
    if leader is None:
        raise Status(*LEADER_MISSING)
    client = Client(etcd, caller)
    leader.lease = client.session(leader.lease)
    return client, leader


def leader(etcd: Any, caller: Caller, request: LeaderRequest) -> LeaderResponse:
    """Who leads. Raises Status if nobody does."""

    def run() -> LeaderResponse:
        found = Client(etcd, caller).range(first_created(request.name + b"/"))
        if not found.kvs:
            raise Status(*NO_LEADER)
        return LeaderResponse(header=found.header, kv=found.kvs[0])

    return as_client(run)


class Observer:
    """One observe stream. It ends, as etcd's does, when the leader can't be read: without rights, without a majority. `_look` is for a worker, the rest for the streams' thread."""

    def __init__(self, etcd: Any, caller: Caller, out: Out) -> None:
        self._etcd = etcd
        self._caller = caller
        self._out = out
        out.on_room = self._resume
        self._prefix = b"/"
        self._watcher: Watcher | None = None  # of the leader's key, or of the name while nobody leads
        self._follows = False  # whether it is the leader's key
        self._over = False

    def received(self, message: LeaderRequest) -> None:
        """Which election."""
        self._prefix = message.name + b"/"
        self._out.job(self._look)

    def ended(self) -> None:
        """It was the only message."""

    def closed(self) -> None:
        """The client has gone."""
        self._over = True
        self._unwatch()

    def _look(self) -> None:
        """Tells who leads, and has that key watched; if nobody does, the name. What can't be read is the end, without a word."""
        if self._over:
            return
        try:
            found = Client(self._etcd, self._caller).range(first_created(self._prefix))
        except (Status, NodeError):
            self._out.end()
            return
        assert found.header is not None
        revision = found.header.revision
        if found.kvs:
            self._tell(found.header, found.kvs[0])
            self._follow(found.kvs[0].key, revision + 1)
        else:
            watcher = Watcher(self, self._prefix, self._prefix[:-1] + b"0", no_deletes=True)
            self._etcd.streams.call(lambda: self._watch(watcher, revision + 1, False))

    def _tell(self, header: ResponseHeader, kv: KeyValue) -> None:
        self._out.send(LeaderResponse(header=header, kv=kv))

    def _follow(self, key: bytes, revision: int) -> None:
        """Has the leader's key watched from a revision on, when all have been given what they are given now."""
        self._etcd.streams.call(lambda: self._watch(Watcher(self, key), revision, True))

    def _watch(self, watcher: Watcher, revision: int, follows: bool) -> None:
        if not self._over:
            self._watcher, self._follows = watcher, follows
            self._etcd.hub.watch(watcher, revision)

    def _unwatch(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            self._etcd.hub.cancel(watcher)

    # ---- what the hub asks and gives --------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the client has to take what it was sent first."""
        return self._out.full

    def _resume(self) -> None:
        self._etcd.hub.resume(self)

    def deliver(self, watcher: Watcher, block: Block) -> None:
        """Changes of what is watched."""
        for change in block.changes:
            if watcher is not self._watcher or self._over:
                return
            if change.deleted:
                self._watch_no_more()
                self._out.job(self._look)
                return
            kv = key_value(change.record, change.record.value)
            self._tell(self._etcd.header(change.main), kv)
            if not self._follows:
                self._watch_no_more()
                self._follow(kv.key, change.main + 1)
                return

    def compacted(self, watcher: Watcher, revision: int) -> None:
        """What is missing is gone: only the newest can be told."""
        if watcher is self._watcher:
            self._watcher = None
            self._out.job(self._look)

    def _watch_no_more(self) -> None:
        """As `_unwatch`, after the hub has given this block to all."""
        watcher, self._watcher = self._watcher, None
        self._etcd.streams.call(lambda: self._etcd.hub.cancel(watcher))


def observe(etcd: Any, caller: Caller, out: Out) -> Incoming:
    """Opens an observe stream."""
    return Observer(etcd, caller, out)


METHODS: list[Method] = [
    Call("election/campaign", CampaignRequest, campaign),
    Call("election/proclaim", ProclaimRequest, proclaim),
    Call("election/leader", LeaderRequest, leader),
    Stream("election/observe", LeaderRequest, observe, many=False),
    Call("election/resign", ResignRequest, resign),
]

"""Locks and elections (server/v3/lock_service.py, election_service.py) on one node, called as the gateway calls them.

What etcd answers is in the transcripts of tests/gateway; here is what they don't show.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.node import Node
from server.v3 import auth_service
from server.v3.election_service import campaign, leader, observe, proclaim, resign
from server.v3.lease_service import grant
from server.v3.lock_service import lock, unlock
from server.v3.method import Call, Caller
from server.v3.rpc import (
    CampaignRequest,
    CompactionRequest,
    DeleteRangeRequest,
    InternalRaftRequest,
    LeaderKey,
    LeaderRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    LockRequest,
    ProclaimRequest,
    PutRequest,
    RequestOp,
    ResignRequest,
    TxnRequest,
    UnlockRequest,
)
from server.v3.status import Status
from tests.server.local_nodes import LocalCluster, eventually

NOBODY = Caller()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        for lease in (16, 32, 48):
            grant(node.etcd, NOBODY, LeaseGrantRequest(ID=lease, TTL=600))
        yield node


class Begun:
    """A call in a thread of its own, whose client may go away."""

    def __init__(self, run: Callable[..., Any], node: Node, request: Any, caller: Caller = NOBODY) -> None:
        self.outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.gone = threading.Event()
        caller = caller._replace(gone=self.gone.is_set)
        self._thread = threading.Thread(target=self._run, args=(run, node.etcd, caller, request))
        self._thread.start()

    def _run(self, run: Callable[..., Any], etcd: Any, caller: Caller, request: Any) -> None:
        try:
            self.outcome.put(run(etcd, caller, request))
        except Exception as error:
            self.outcome.put(error)

    def end(self) -> Any:
        outcome = self.outcome.get(timeout=30)
        self._thread.join()
        return outcome


def keys(node: Node) -> list[bytes]:
    with node.machine.view() as view:
        return [record.key for record in view.range(b"", None)]


def revoke(node: Node, lease: int) -> None:
    node.etcd.request(InternalRaftRequest(lease_revoke=LeaseRevokeRequest(ID=lease)))


def begin(run: Callable[..., Any], node: Node, request: Any, key: bytes, caller: Caller = NOBODY) -> Begun:
    """A call that has put its key."""
    begun = Begun(run, node, request, caller)
    eventually("it is in the queue", lambda: key in keys(node))
    return begun


def test_a_lock_is_handed_on_in_the_order_of_the_requests(node: Node) -> None:
    first = lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=16))
    assert first.key == b"l/10"
    second = begin(lock, node, LockRequest(name=b"l", lease=32), b"l/20")
    third = begin(lock, node, LockRequest(name=b"l", lease=48), b"l/30")
    unlock(node.etcd, NOBODY, UnlockRequest(key=first.key))
    told = second.end()
    assert told.key == b"l/20" and told.header.revision == node.machine.revision
    assert third.outcome.empty()
    revoke(node, 32)
    assert third.end().key == b"l/30"


def test_who_asks_again_keeps_its_place(node: Node) -> None:
    """By its lease: the holder is told so again at once, and who waits goes on waiting."""
    first = lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=16))
    second = begin(lock, node, LockRequest(name=b"l", lease=32), b"l/20")
    revision = node.machine.revision
    assert Begun(lock, node, LockRequest(name=b"l", lease=16)).end().key == first.key
    again = Begun(lock, node, LockRequest(name=b"l", lease=32))
    eventually("it waits", lambda: node.etcd.hub.metrics()["watchers"] == 2)
    assert node.machine.revision == revision, "nothing is put"
    unlocked = unlock(node.etcd, NOBODY, UnlockRequest(key=first.key))
    assert unlocked.header.revision == revision + 1
    assert [each.end().key for each in (second, again)] == [b"l/20", b"l/20"]


def test_who_waits_between_two_others_and_goes_wakes_nobody_wrongly(node: Node) -> None:
    lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=16))
    second = begin(lock, node, LockRequest(name=b"l", lease=32), b"l/20")
    third = begin(lock, node, LockRequest(name=b"l", lease=48), b"l/30")
    second.gone.set()
    assert isinstance(second.end(), Status)
    assert keys(node) == [b"l/10", b"l/30"], "it has taken its key along"
    assert third.outcome.empty()
    revoke(node, 16)
    assert third.end().key == b"l/30"


def test_who_has_lost_its_lease_while_it_waited_is_told_when_it_would_be_its_turn(node: Node) -> None:
    lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=16))
    second = begin(lock, node, LockRequest(name=b"l", lease=32), b"l/20")
    revoke(node, 32)
    revoke(node, 16)
    told = second.end()
    assert (told.code, told.sentence) == (2, "mutex: session is expired")
    assert keys(node) == []


def test_a_history_that_is_gone_makes_nobody_wait_for_ever(node: Node) -> None:
    """The key is deleted, and that is compacted, before the watch for it begins."""
    lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=16))
    subscribe = node.etcd.subscribe

    def late(*arguments: Any) -> Any:
        node.etcd.subscribe = subscribe  # type: ignore[method-assign]
        revoke(node, 16)
        node.etcd.request(InternalRaftRequest(put=PutRequest(key=b"x")))
        node.etcd.request(InternalRaftRequest(compaction=CompactionRequest(revision=node.machine.revision)))
        return subscribe(*arguments)

    node.etcd.subscribe = late  # type: ignore[method-assign]
    assert lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=32)).key == b"l/20"


def test_who_waits_for_a_lock_goes_on_waiting_when_users_change(node: Node) -> None:
    """Who isn't a user any more is refused when it would be its turn, and its key goes with its lease."""
    methods = {each.path: each for each in auth_service.METHODS}

    def tell(path: str, caller: Caller, **fields: Any) -> Any:
        method: Any = methods[path]
        request = method.request(**fields)
        if isinstance(method, Call):
            return method.run(node.etcd, caller, request)
        return node.etcd.ask(node.etcd.identify(caller), method.field, request)

    for name in ("root", "alice"):
        tell("auth/user/add", NOBODY, name=name, password=name)
        tell("auth/user/grant", NOBODY, user=name, role="root")
    tell("auth/enable", NOBODY)
    root, alice = (
        Caller(tell("auth/authenticate", NOBODY, name=name, password=name).token) for name in ("root", "alice")
    )
    first = lock(node.etcd, root, LockRequest(name=b"l", lease=16))
    second = begin(lock, node, LockRequest(name=b"l", lease=32), b"l/20", alice)
    tell("auth/user/add", root, name="bob", password="bob")
    third = begin(lock, node, LockRequest(name=b"l", lease=48), b"l/30", alice)
    unlock(node.etcd, root, UnlockRequest(key=first.key))
    assert second.end().key == b"l/20"
    tell("auth/user/delete", root, name="alice")
    unlock(node.etcd, root, UnlockRequest(key=b"l/20"))
    refused = third.end()
    assert (refused.code, refused.sentence) == (2, "etcdserver: invalid auth token")
    assert keys(node) == [b"l/30"]


def test_a_node_that_stops_lets_nobody_wait(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        for lease in (16, 32):
            grant(node.etcd, NOBODY, LeaseGrantRequest(ID=lease, TTL=600))
        lock(node.etcd, NOBODY, LockRequest(name=b"l", lease=16))
        second = begin(lock, node, LockRequest(name=b"l", lease=32), b"l/20")
    assert isinstance(second.end(), Status)


def test_a_candidate_that_gives_up_takes_its_key_along(node: Node) -> None:
    campaign(node.etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"1"))
    second = begin(campaign, node, CampaignRequest(name=b"e", lease=32, value=b"2"), b"e/20")
    second.gone.set()
    assert isinstance(second.end(), Status)
    assert keys(node) == [b"e/10"]


def test_a_leader_that_campaigns_again_proclaims_another_value_and_nothing_else(node: Node) -> None:
    led = campaign(node.etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"1")).leader
    for value, revision in ((b"1", 2), (b"2", 3)):
        again = Begun(campaign, node, CampaignRequest(name=b"e", lease=16, value=value)).end()
        assert again.leader == led
        said = leader(node.etcd, NOBODY, LeaderRequest(name=b"e"))
        assert (said.kv.value, said.kv.mod_revision, said.kv.lease) == (value, revision, 16)
        assert said.header.revision == revision


def test_a_leader_that_names_no_lease_gets_a_new_one(node: Node) -> None:
    """As a candidate does; what it says hangs on that from then on."""
    led = campaign(node.etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"1")).leader
    led.lease = 0
    proclaim(node.etcd, NOBODY, ProclaimRequest(leader=led, value=b"2"))
    assert led.lease not in (0, 16)
    assert node.etcd.leases.keys_in(node.machine.store, led.lease) == [b"e/10"]
    assert node.etcd.leases.keys_in(node.machine.store, 16) == []


def test_what_is_wrong_in_itself_is_refused_before_it_is_proposed(node: Node) -> None:
    index = node.machine.applied_index
    for wrong in (
        lambda: proclaim(node.etcd, NOBODY, ProclaimRequest(leader=LeaderKey(lease=16))),
        lambda: resign(node.etcd, NOBODY, ResignRequest(leader=LeaderKey(lease=16))),
        lambda: unlock(node.etcd, NOBODY, UnlockRequest()),
        lambda: lock(node.etcd, NOBODY, LockRequest(name=b"n" * 33_000, lease=16)),
    ):
        with pytest.raises(Status, match="key") as refused:
            wrong()
        assert refused.value.code == 2
    for nobody in (
        lambda: proclaim(node.etcd, NOBODY, ProclaimRequest()),
        lambda: resign(node.etcd, NOBODY, ResignRequest()),
    ):
        with pytest.raises(Status, match='"leader" field must be provided'):
            nobody()
    assert node.machine.applied_index == index


class Out:
    """What an observer is told."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.full = False
        self.on_room: Callable[[], object] | None = None

    def send(self, message: Any) -> bool:
        self.told.put((message.header.revision, message.kv.key, message.kv.value))
        return True

    def job(self, function: Callable[[], object]) -> None:
        threading.Thread(target=function).start()

    def next(self) -> Any:
        return self.told.get(timeout=30)


def test_an_observer_follows_the_leaders(node: Node) -> None:
    etcd, out = node.etcd, Out()
    observer = observe(etcd, NOBODY, out)  # type: ignore[arg-type]
    etcd.streams.call(lambda: observer.received(LeaderRequest(name=b"e")))
    eventually("it waits for a leader", lambda: observer._watcher is not None)  # type: ignore[attr-defined]
    led = campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"1")).leader
    assert led == LeaderKey(name=b"e", key=b"e/10", rev=2, lease=16)
    assert out.next() == (2, b"e/10", b"1")
    second = begin(campaign, node, CampaignRequest(name=b"e", lease=32, value=b"2"), b"e/20")
    proclaim(etcd, NOBODY, ProclaimRequest(leader=led, value=b"1b"))
    assert out.next() == (4, b"e/10", b"1b")
    resign(etcd, NOBODY, ResignRequest(leader=led))
    assert out.next() == (5, b"e/20", b"2"), "the next one leads, with what it had said before"
    assert second.end().leader.rev == 3
    revoke(node, 32)
    with pytest.raises(Status, match="election: no leader"):
        leader(etcd, NOBODY, LeaderRequest(name=b"e"))
    campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=48, value=b"3"))
    assert out.next() == (7, b"e/30", b"3")
    etcd.streams.call(observer.closed)
    eventually("nothing is watched", lambda: etcd.hub.metrics()["watchers"] == 0)


def test_an_observer_that_goes_while_it_looks_watches_nothing(node: Node) -> None:
    etcd, out, gate, over = node.etcd, Out(), threading.Event(), threading.Event()
    jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    out.job = jobs.put  # type: ignore[method-assign]
    observer = observe(etcd, NOBODY, out)  # type: ignore[arg-type]
    etcd.streams.call(lambda: observer.received(LeaderRequest(name=b"e")))
    look = jobs.get(timeout=30)
    for call in (gate.wait, observer.closed):
        etcd.streams.call(call)
    look()  # what it has found is to be watched after `closed`
    etcd.streams.call(over.set)
    gate.set()
    assert over.wait(30)
    assert etcd.hub.metrics()["watchers"] == 0


def test_an_observer_hears_nothing_of_leaders_of_before(node: Node) -> None:
    etcd, out = node.etcd, Out()
    led = campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"old")).leader
    resign(etcd, NOBODY, ResignRequest(leader=led))
    observer = observe(etcd, NOBODY, out)  # type: ignore[arg-type]
    etcd.streams.call(lambda: observer.received(LeaderRequest(name=b"e")))
    eventually("it waits for a leader", lambda: observer._watcher is not None)  # type: ignore[attr-defined]
    campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=32, value=b"new"))
    assert out.next() == (4, b"e/20", b"new")
    etcd.streams.call(observer.closed)
    eventually("nothing is watched", lambda: etcd.hub.metrics()["watchers"] == 0)


def test_an_observer_goes_on_when_one_transaction_puts_and_deletes_the_leader_s_key(node: Node) -> None:
    """etcd's is told of that put twice, and then follows a key that is gone (server/GATEWAY.md)."""
    etcd, out = node.etcd, Out()
    campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"1"))
    observer: Any = observe(etcd, NOBODY, out)  # type: ignore[arg-type]
    etcd.streams.call(lambda: observer.received(LeaderRequest(name=b"e")))
    assert out.next() == (2, b"e/10", b"1")
    put = RequestOp(request_put=PutRequest(key=b"e/10", value=b"2"))
    delete = RequestOp(request_delete_range=DeleteRangeRequest(key=b"\0", range_end=b"\0"))
    etcd.request(InternalRaftRequest(txn=TxnRequest(success=[put, delete])))
    assert out.next() == (3, b"e/10", b"2")
    eventually("it waits for a leader", lambda: observer._watcher is not None and not observer._follows)
    campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=32, value=b"3"))
    assert out.next() == (4, b"e/20", b"3")
    etcd.streams.call(observer.closed)
    eventually("nothing is watched", lambda: etcd.hub.metrics()["watchers"] == 0)


def test_an_observer_whose_history_is_compacted_is_told_the_newest(node: Node) -> None:
    """It took nothing for too long: what it has missed can't be read any more."""
    etcd, out = node.etcd, Out()
    led = campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"0")).leader
    observer = observe(etcd, NOBODY, out)  # type: ignore[arg-type]
    etcd.streams.call(lambda: observer.received(LeaderRequest(name=b"e")))
    assert out.next() == (2, b"e/10", b"0")
    out.full = True
    for value in (b"1", b"2"):
        proclaim(etcd, NOBODY, ProclaimRequest(leader=led, value=value))
    eventually("it is unsynced", lambda: etcd.hub.metrics()["watchers_unsynced"] == 1)
    etcd.request(InternalRaftRequest(compaction=CompactionRequest(revision=4)))
    out.full = False
    assert out.on_room is not None
    etcd.streams.call(out.on_room)
    assert out.next() == (4, b"e/10", b"2")
    proclaim(etcd, NOBODY, ProclaimRequest(leader=led, value=b"3"))
    assert out.next() == (5, b"e/10", b"3")
    etcd.streams.call(observer.closed)
    eventually("nothing is watched", lambda: etcd.hub.metrics()["watchers"] == 0)


def test_an_observer_that_takes_nothing_is_told_the_rest_when_it_does(node: Node) -> None:
    etcd, out = node.etcd, Out()
    observer = observe(etcd, NOBODY, out)  # type: ignore[arg-type]
    led = campaign(etcd, NOBODY, CampaignRequest(name=b"e", lease=16, value=b"0")).leader
    etcd.streams.call(lambda: observer.received(LeaderRequest(name=b"e")))
    assert out.next() == (2, b"e/10", b"0")
    out.full = True
    for value in (b"1", b"2", b"3"):
        proclaim(etcd, NOBODY, ProclaimRequest(leader=led, value=value))
    eventually("it is unsynced", lambda: etcd.hub.metrics()["watchers_unsynced"] == 1)
    assert out.told.empty()
    out.full = False
    assert out.on_room is not None
    etcd.streams.call(out.on_room)
    assert [out.next() for _ in range(3)] == [(3, b"e/10", b"1"), (4, b"e/10", b"2"), (5, b"e/10", b"3")]
    etcd.streams.call(observer.closed)
    eventually("nothing is watched", lambda: etcd.hub.metrics()["watchers"] == 0)

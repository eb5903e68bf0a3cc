"""A node's quota: when it raises NOSPACE by itself, what that costs, and how a cluster of three engines gets out of it."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import engines
from server.config import NodeConfig
from server.errors import NoSpace
from server.http import FrontEnd
from server.v3 import rpc
from server.v3.quota import RAISE_AGAIN_S
from server.v3.standing import Standing
from server.verbs.words import quota
from tests.server.gateways import asked
from tests.server.local_nodes import LocalCluster, eventually, insist

NOSPACE = rpc.AlarmType.NOSPACE
ACTIVATE, DEACTIVATE = rpc.AlarmRequest.AlarmAction.ACTIVATE, rpc.AlarmRequest.AlarmAction.DEACTIVATE
THREE = ("lsm", "btree", "bitcask")
QUOTA_BYTES = 1 << 20


# ---- one node, tick by tick -----------------------------------------------------------------------------------------


class World:
    """Node 2 with a quota of 100 bytes, and a store that says what it is told to; a tick is 0.05 s."""

    def __init__(self, quota_bytes: int = 100) -> None:
        self.size, self.looks, self.leader = 0, 0, 1
        self.proposed: list[rpc.InternalRaftRequest] = []
        self._now = 0.0
        self.standing = Standing()
        store = SimpleNamespace(size_bytes=self._size_bytes)
        config = NodeConfig(2, {}, "unused", quota_bytes=quota_bytes)
        members = SimpleNamespace(book=SimpleNamespace(members={1: None, 2: None}))
        node: Any = SimpleNamespace(id=2, config=config, members=members, machine=SimpleNamespace(store=store))
        self.standing.attach(node, self.proposed.append)

    def _size_bytes(self) -> int:
        self.looks += 1
        return self.size

    def ticks(self, count: int = 1) -> Sequence[rpc.AlarmRequest | None]:
        """What is proposed in so many ticks."""
        self.proposed.clear()
        for _ in range(count):
            self._now += 0.05
            self.standing.tick(self._now, self.leader)
        return [each.alarm for each in self.proposed]

    def applied(self, action: int, member: int = 2) -> None:
        self.standing.alarms.change(rpc.AlarmRequest(action, member, NOSPACE))
        self.standing.alarms.written()


OWN = rpc.AlarmRequest(ACTIVATE, 2, NOSPACE)


def test_a_node_at_its_quota_raises_its_alarm_once() -> None:
    world = World()
    world.size = 99
    assert world.ticks(5) == []
    world.size = 100
    assert world.ticks(5) == [OWN]
    world.applied(ACTIVATE)
    world.looks = 0
    assert world.ticks(100) == [] and world.looks == 0


def test_one_proposal_is_under_way_at_a_time() -> None:
    """And again when RAISE_AGAIN_S have passed: a leader may have lost it."""
    world = World()
    world.size = 500
    assert world.ticks(int(RAISE_AGAIN_S / 0.05)) == [OWN]
    assert world.ticks(int(3 * RAISE_AGAIN_S / 0.05)) == [OWN] * 3


def test_an_alarm_of_another_node_is_not_its_own() -> None:
    world = World()
    world.applied(ACTIVATE, member=1)
    world.size = 500
    assert world.ticks() == [OWN]


def test_who_is_disarmed_at_its_quota_is_raised_again_at_the_next_tick() -> None:
    world = World()
    world.size = 500
    world.ticks()
    world.applied(ACTIVATE)
    world.ticks()
    world.applied(DEACTIVATE)
    assert world.ticks() == [OWN]


def test_who_is_disarmed_after_room_was_made_is_not() -> None:
    world = World()
    world.size = 500
    world.ticks()
    world.applied(ACTIVATE)
    world.ticks()
    world.size = 99
    world.applied(DEACTIVATE)
    assert world.ticks(50) == []


def test_nothing_is_proposed_while_nobody_leads() -> None:
    world = World()
    world.size, world.leader = 500, 0
    assert world.ticks(50) == []
    world.leader = 1
    assert world.ticks() == [OWN]


def test_without_a_quota_nobody_looks() -> None:
    world = World(quota_bytes=0)
    world.size = 1 << 60
    assert world.ticks(50) == [] and world.looks == 0


@pytest.mark.parametrize("engine", ["memory", *THREE])
def test_a_look_costs_the_same_however_much_is_written(engine: str, tmp_path: Any) -> None:
    """Which matters for what is in a memtable or in changed pages, all of which `stats` walks."""
    with engines.open(str(tmp_path / "store"), engine, sync=False) as store:
        store.put(b"first", b"1")
        few, small = _calls(store)
        for number in range(2_000):
            store.put(b"%d" % number, b"v" * 100)
        many, large = _calls(store)
    assert many <= few + 2 and many < 40
    assert large > small + 200_000


def _calls(store: engines.KVStore) -> tuple[int, int]:
    """How many functions a look at the size calls, and the size."""
    count = 0

    def profile(frame: object, event: str, function: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        size = store.size_bytes()
    finally:
        sys.setprofile(None)
    return count, size


@pytest.mark.parametrize(
    "text, told", [("0", 0), ("-1", 0), ("2147483648", 1 << 31), (str((1 << 63) - 1), (1 << 63) - 1)]
)
def test_a_quota_on_a_command_line(text: str, told: int) -> None:
    assert quota(text) == told


# ---- a cluster ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(cluster: LocalCluster) -> Iterator[list[str]]:
    """The URLs of all nodes, in the order of their ids."""
    with contextlib.ExitStack() as ends:
        urls = []
        for _, node in sorted(cluster.nodes.items()):
            front = FrontEnd(node, ("127.0.0.1", 0))
            front.start()
            ends.callback(front.stop)
            urls.append("http://{}:{}".format(*front.address))
        yield urls


def call(url: str, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
    status, _, body = asked(url, "POST", f"/v3/{path}", json.dumps(request).encode())
    return status, json.loads(body)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def disarm(url: str) -> None:
    for each in call(url, "maintenance/alarm", action="GET")[1].get("alarms", []):
        assert call(url, "maintenance/alarm", **{**each, "action": "DEACTIVATE"})[0] == 200


def test_three_engines_are_filled_and_get_room_again(tmp_path: Any, seed: int) -> None:
    """Delete or overwrite, compact, defragment each node, disarm: as with etcd."""
    rng = random.Random(seed)
    with LocalCluster(tmp_path, THREE, quota_bytes=QUOTA_BYTES) as cluster:
        node = cluster.leader()

        def full() -> bool:
            try:
                insist(lambda: node.propose([(b"key", rng.randbytes(20_000))]))
            except NoSpace:
                return True
            return False

        eventually("nothing can be put", full)
        raised = node.etcd.alarms.raised
        assert raised and {kind for _, kind in raised} == {NOSPACE}
        with served(cluster) as urls:
            _what_is_refused(urls)
            [kept] = call(urls[0], "kv/range", key=b64(b"key"))[1]["kvs"]
            revision = int(kept["mod_revision"])
            assert call(urls[0], "kv/compaction", revision=revision, physical=True)[0] == 200
            for each in cluster.nodes.values():
                eventually("its old versions are deleted", lambda each=each: each.etcd.is_deleted(revision))
            for url in urls:
                assert call(url, "maintenance/defragment") == (200, {})
                assert int(call(url, "maintenance/status")[1]["dbSize"]) < QUOTA_BYTES
            assert asked(urls[0], "PUT", "/other", b"1")[0] == 507  # until it is disarmed
            disarm(urls[0])
            assert [asked(url, "PUT", "/other", b"1")[0] for url in urls] == [204] * 3
            assert call(urls[0], "kv/range", key=b64(b"key"))[1]["kvs"] == [kept]
        assert node.etcd.alarms.raised == ()


def _what_is_refused(urls: list[str]) -> None:
    put = {"key": b64(b"other"), "value": b64(b"1")}
    operations = json.dumps({"op": "put", **put}).encode()
    for url in urls:
        status, _, body = asked(url, "PUT", "/other", b"1")
        assert status == 507 and b"NOSPACE" in body
        assert asked(url, "POST", "/_/batch", operations)[0] == 507
        assert call(url, "kv/put", **put)[0] == 429
        assert call(url, "lease/grant", TTL=60)[0] == 429
        assert asked(url, "DELETE", "/none")[0] == 204
        assert asked(url, "GET", "/key")[0] == 200
        assert asked(url, "GET", "/health")[0] == 503
        text = asked(url, "GET", "/metrics")[2].decode()
        assert f"\netcd_server_quota_backend_bytes {QUOTA_BYTES}\n" in text


def test_a_follower_raises_for_itself(tmp_path: Any) -> None:
    """Its quota and its engine are its own. It goes on after a restart, and under another leader."""
    with LocalCluster(tmp_path, THREE) as cluster:
        leader, follower = cluster.leader(), cluster.follower()
        cluster.put(leader, b"a", b"1")
        cluster.stop(follower.id)
        follower = cluster.start(follower.id, quota_bytes=1)

        def raised() -> Any:
            return all(node.etcd.alarms.raised == ((follower.id, NOSPACE),) for node in cluster.nodes.values())

        eventually("its alarm is everywhere", raised)
        with pytest.raises(NoSpace):
            insist(lambda: cluster.leader().propose([(b"a", b"2")]))
        insist(lambda: follower.propose([(b"a", None)]))

        def disarmed() -> Any:
            alarm = rpc.AlarmRequest(DEACTIVATE, follower.id, NOSPACE)
            return insist(lambda: cluster.leader().etcd.request(rpc.InternalRaftRequest(alarm=alarm)))

        assert disarmed().alarms
        eventually("it is raised again", raised)
        insist(lambda: cluster.leader().transfer(follower.id))
        assert disarmed().alarms
        eventually("it is raised again by the leader", raised)
        cluster.stop(follower.id)
        cluster.start(follower.id)
        assert disarmed().alarms
        cluster.put(cluster.leader(), b"a", b"3")
        assert cluster.values() == {b"a": b"3"}


def test_one_write_larger_than_what_is_left_is_taken(tmp_path: Any, seed: int) -> None:
    """A departure from etcd, which refuses it: the alarm comes after it."""
    value = random.Random(seed).randbytes(QUOTA_BYTES)
    with LocalCluster(tmp_path, ["memory"], quota_bytes=QUOTA_BYTES) as cluster:
        node = cluster.leader()
        assert node.etcd.alarms.raised == ()
        insist(lambda: node.propose([(b"a", value)]))
        eventually("the alarm is raised", lambda: node.etcd.alarms.raised == ((1, NOSPACE),))
        assert cluster.read(node, b"a") == value

"""The history goes with a snapshot, from each engine to each: old revisions, watches from the past, compaction after it."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
from server.errors import NodeError
from server.mvcc import Compacted, Record, Revision
from server.mvcc_rows import HISTORY
from server.node import Node
from server.v3 import rpc
from server.v3.status import Status
from server.v3.subscription import Subscription
from tests.conftest import SEED
from tests.server.local_nodes import LocalCluster, cuts_over, eventually, insist

ENGINES = sorted(engines.ENGINES)
PAIRS = list(itertools.product(ENGINES, ENGINES))
DRAWN = random.Random(SEED).sample(PAIRS, 2)  # the others are slow tests
NOBODY: frozenset[int] = frozenset()


def write(node: Node, rng: random.Random) -> None:
    """One entry that changes keys: by the simple routes, or as a request with several changes."""
    keys = [b"k%d" % number for number in range(6)]
    key, value = rng.choice(keys), b"%d" % rng.randrange(10**6)
    kind = rng.randrange(4)
    if kind == 0:
        operations = [(key, value), (rng.choice(keys), None), (key, value + b"!")]
        insist(lambda: node.propose(operations))
        return
    if kind == 1:
        request = rpc.InternalRaftRequest(put=rpc.PutRequest(key=key, value=value))
    elif kind == 2:
        request = rpc.InternalRaftRequest(delete_range=rpc.DeleteRangeRequest(key=key, range_end=b"l"))
    else:
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=each, value=value)) for each in keys[:3]]
        request = rpc.InternalRaftRequest(txn=rpc.TxnRequest(success=puts))
    insist(lambda: node.etcd.request(request))


def contents(node: Node) -> dict[int, list[Record]]:
    """All versions that a node can be asked for, by revision; a revision before those is compacted."""
    with node.machine.view() as view:
        with pytest.raises(Compacted):
            view.range(b"", None, view.compacted - 1)
        return {at: list(view.range(b"", None, at)) for at in range(view.compacted, view.revision + 1)}


def history(node: Node) -> list[object]:
    """All changes that a node has, and what each one replaced."""
    with node.machine.view() as view:
        return [(change, view.prev_of(change)) for change in view.changes(Revision(view.compacted, 0))]


def watched(subscription: Subscription, until: int) -> Iterator[object]:
    """What a watch is told, up to a revision."""
    while True:
        changes = subscription.next(30.0)
        assert changes is not None, "the watch was told nothing more"
        yield from changes
        if changes[-1].main >= until:
            return


def compact(cluster: LocalCluster, revision: int) -> None:
    """Compacts, a few rows at a time; after each step all nodes have the same rows."""
    leader = cluster.leader()
    with contextlib.suppress(Status):  # the second time, if nobody knew what had become of the first
        insist(lambda: leader.etcd.request(rpc.InternalRaftRequest(compaction=rpc.CompactionRequest(revision))))
    sizes = [len(cluster.converged())]
    while not leader.etcd.is_deleted(revision):
        insist(leader.etcd.take_compaction_on)
        sizes.append(len(cluster.converged()))
    assert len(sizes) > 2 and sizes[0] > sizes[-1]


def leads_now(cluster: LocalCluster, node_id: int) -> bool:
    """Whether this node leads; if not, the leader is asked to hand over."""
    leader = cluster.leader()
    if leader.id != node_id:
        with contextlib.suppress(NodeError):
            leader.transfer(node_id)
    return leader.id == node_id


def lag_and_catch_up(directory: Path, leads: str, follows: str, rng: random.Random) -> None:
    """Node 2 is cut off while it has watches, and is sent a snapshot by node 1."""
    with LocalCluster(directory, [leads, follows, "memory"], snapshot_entries=20, catch_up_entries=2) as cluster:
        eventually("node 1 leads", lambda: leads_now(cluster, 1))
        leader, follower = cluster.nodes[1], cluster.nodes[2]
        for _ in range(30):
            write(leader, rng)
        compact(cluster, leader.machine.revision - 15)
        behind = follower.machine.revision
        with follower.machine.view() as view:
            oldest = view.compacted
        live = follower.etcd.subscribe(b"", b"\0", behind + 1)
        follower.breakable().cut(frozenset({1, 3}), frozenset({1, 3}))
        for _ in range(45):
            write(leader, rng)
        cuts_over(leader)
        assert follower.machine.revision == behind
        received = follower.metrics()["snapshots_received_total"]
        follower.breakable().cut(NOBODY, NOBODY)
        cluster.converged()
        assert follower.metrics()["snapshots_received_total"] > received
        newest = leader.machine.revision
        assert newest > behind + 20

        expected = history(leader)
        assert contents(follower) == contents(leader) and history(follower) == expected
        changes = [change for change, _ in expected]  # type: ignore[misc]
        assert list(watched(live, newest)) == [change for change in changes if change.main > behind]
        past = follower.etcd.subscribe(b"", b"\0", oldest)
        assert list(watched(past, newest)) == changes
        for watch in (live, past):
            watch.close()

        for _ in range(5):
            write(leader, rng)
        compact(cluster, behind + 10)  # among what came with the snapshot
        assert contents(follower) == contents(leader) and history(follower) == history(leader)
        compact(cluster, leader.machine.revision)
        assert sum(key.startswith(HISTORY) for key, _ in cluster.converged()) <= 12
        assert follower.machine.store.check() == leader.machine.store.check() == []


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction takes many steps, and none that the test doesn't ask for."""
    monkeypatch.setattr("server.mvcc_compaction.STEP_ROWS_MAX", 7)
    monkeypatch.setattr("server.mvcc_compaction.EVERY", 1 << 30)
    monkeypatch.setattr("server.mvcc_compaction.OWED_MAX", 1 << 30)
    monkeypatch.setattr("server.v3.etcd.IDLE_TICKS", 1 << 30)


@pytest.mark.parametrize(("leads", "follows"), DRAWN)
def test_a_node_that_gets_a_snapshot_has_the_history_with_it(
    tmp_path: Path, rng: random.Random, leads: str, follows: str
) -> None:
    lag_and_catch_up(tmp_path, leads, follows, rng)


@pytest.mark.slow
@pytest.mark.parametrize(("leads", "follows"), [pair for pair in PAIRS if pair not in DRAWN])
def test_so_it_is_for_all_other_pairs_of_engines(tmp_path: Path, rng: random.Random, leads: str, follows: str) -> None:
    lag_and_catch_up(tmp_path, leads, follows, rng)

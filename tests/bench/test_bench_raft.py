"""Raft alone: three nodes in one thread, every message through its encoding, storage in memory.

    pytest tests/bench/test_bench_raft.py --benchmark-enable

The figure is the cost of the library itself: no disk, no network. A round is a fixed number of proposals, so that a
faster machine doesn't measure another log.
"""

from __future__ import annotations

import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from raft import Config, ConfState, MemoryStorage, Message, RawNode

PROPOSALS = 6_400
DATA = b"v" * 128
ROUNDS = 5


class Cluster:
    """Three nodes that hand each other bytes, and count what they apply."""

    def __init__(self) -> None:
        conf_state = ConfState((1, 2, 3))
        self.storages = {node_id: MemoryStorage(conf_state) for node_id in conf_state.voters}
        self.nodes = {
            node_id: RawNode(
                Config(id=node_id, election_tick=10, heartbeat_tick=1, storage=storage, rng=random.Random(node_id))
            )
            for node_id, storage in self.storages.items()
        }
        self.applied = dict.fromkeys(self.nodes, 0)
        self.reads = 0
        self.nodes[1].campaign()
        self.settle()

    def settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for node_id, node in self.nodes.items():
                if node.has_ready():
                    busy = True
                    self._process(node_id, node)

    def _process(self, node_id: int, node: RawNode) -> None:
        ready = node.ready()
        storage = self.storages[node_id]
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        self.applied[node_id] += len(ready.committed_entries)
        self.reads += len(ready.read_states)
        node.advance()
        for message in ready.messages:
            self.nodes[message.to].step(Message.decode(message.encode()))


@pytest.mark.parametrize("batch", [1, 16, 64, 256])
def test_proposals_committed_on_three_nodes(benchmark: BenchmarkFixture, batch: int) -> None:
    """`batch` proposals at a time, each batch applied on all three nodes before the next: the driver's worst case."""
    clusters: list[Cluster] = []

    def setup() -> tuple[tuple[Cluster], dict[str, object]]:
        clusters.append(Cluster())
        return (clusters[-1],), {}

    def propose(cluster: Cluster) -> None:
        leader, datas = cluster.nodes[1], [DATA] * batch
        for _ in range(PROPOSALS // batch):
            leader.propose_batch(datas)
            cluster.settle()

    what = f"a proposal of {len(DATA)} bytes, {batch} at a time, {PROPOSALS:,} in all, applied on three nodes"
    benchmark.extra_info.update(what=what, operations=PROPOSALS)
    benchmark.pedantic(propose, setup=setup, rounds=ROUNDS, iterations=1)
    for cluster in clusters:
        cluster.nodes[1].tick()
        cluster.settle()
        # One more is the entry that opened the term.
        assert cluster.applied == dict.fromkeys(cluster.nodes, PROPOSALS + 1)
        assert {storage.last_index() for storage in cluster.storages.values()} == {PROPOSALS + 1}


def test_reads_confirmed_by_a_quorum(benchmark: BenchmarkFixture) -> None:
    """1,000 reads, one at a time, each with its own round of heartbeats."""
    clusters: list[Cluster] = []

    def setup() -> tuple[tuple[Cluster], dict[str, object]]:
        clusters.append(Cluster())
        return (clusters[-1],), {}

    def read(cluster: Cluster) -> None:
        for _ in range(1_000):
            cluster.nodes[1].read_index(b"context")
            cluster.settle()

    benchmark.extra_info.update(what="a read, one at a time, with its own round of heartbeats", operations=1_000)
    benchmark.pedantic(read, setup=setup, rounds=ROUNDS, iterations=1)
    assert all(cluster.reads == 1_000 for cluster in clusters)


def test_an_append_message_is_encoded_and_decoded(benchmark: BenchmarkFixture) -> None:
    """64 entries of 128 bytes: one message as it is made, sent, and read."""
    cluster = Cluster()
    cluster.nodes[1].propose_batch([DATA] * 64)
    (message, _) = cluster.nodes[1].ready().messages

    def there_and_back() -> Message:
        return Message.decode(message.encode())

    benchmark.extra_info.update(what="a message of 64 entries of 128 bytes: made, sent, and read", operations=1)
    decoded = benchmark.pedantic(there_and_back, rounds=200, iterations=1)
    assert decoded == message

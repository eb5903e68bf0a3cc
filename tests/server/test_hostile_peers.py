"""The port for peers of a real node under hostile input: it goes on, believes nothing of it, and nothing of it grows.

A member that has gone mad is among what is thrown: it says rightly who it is and whom it calls, and nothing else rightly.
"""

import random

import pytest

from raft.raftpb import MSG_HEARTBEAT_RESP, Message
from tests.server.hostile import Belongings, peer_input, throw_all
from tests.server.local_nodes import LocalCluster, eventually


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_whatever_is_sent_to_the_port_for_peers_the_node_goes_on_and_grows_by_nothing(tmp_path, seed, role, count):
    if role == "follower":
        count //= 4
    with LocalCluster(tmp_path, snapshot_entries=100, catch_up_entries=20) as cluster:
        mad = cluster.follower()
        cluster.leader().receive([Message(MSG_HEARTBEAT_RESP, to=cluster.leader().id, from_=mad.id, term=1000)])
        eventually("the term is a high one", lambda: cluster.leader().status()["term"] >= 1000)
        cluster.put(cluster.leader(), b"before", b"v")
        mad = cluster.follower()
        cluster.stop(mad.id)
        cluster.put(cluster.leader(), b"before", b"w")
        node = cluster.leader() if role == "leader" else cluster.follower()
        address = node.config.peers[node.id]
        met = node._roster.hello().known[mad.id]
        member = {
            "X-Metcd-Cluster": f"{node._roster.cluster_id:016x}",
            "X-Metcd-From": str(mad.id),
            "X-Metcd-To": str(node.id),
            "X-Metcd-Known": f"{mad.id}={met.number:x}.{met.starts}.{met.session:x}",
        }

        def make(rng: random.Random) -> bytes:
            return peer_input(rng, member)

        assert throw_all(address, 400, f"{seed}:warm", make) == []
        belongings = Belongings()
        before = node.metrics()["messages_in_total"]
        assert throw_all(address, count, f"{seed}", make) == []
        belongings.assert_kept()
        metrics = node.metrics()
        assert metrics["messages_in_total"] > before + count / 200, "some of it gets as far as Raft"
        assert metrics["peer_garbage_total"] > count / 10
        for each in cluster.nodes.values():
            assert each.failure is None
        cluster.put(cluster.leader(), b"after", b"v")
        cluster.start(mad.id)
        assert {(b"before", b"w"), (b"after", b"v")} <= set(cluster.values().items())

"""A leader whose log can't be written stops, says why, and acknowledges nothing; the others elect another one."""

import errno

import pytest

from engines.env import real_env
from engines.faultenv import FaultEnv
from server.errors import NodeError, NodeStopped
from tests.server.local_nodes import PATIENCE_S, LocalCluster

FAULTS = {
    "a full disk": {"error": errno.ENOSPC, "kinds": {"append", "pwrite"}},
    "a disk that is full in the middle of a write": {"short_write": True},
    "a write that fails": {"error": errno.EIO, "kinds": {"append", "pwrite"}},
    "a sync that fails": {"error": errno.EIO, "kinds": {"sync"}},
    "a sync that finds the disk full": {"error": errno.ENOSPC, "kinds": {"sync"}},
}
NEVER = 1 << 60


@pytest.mark.parametrize(("name", "forever"), [(name, at % 2 == 0) for at, name in enumerate(FAULTS)])
def test_a_leader_whose_log_can_not_be_written_stops_and_the_others_go_on(tmp_path, capfd, name, forever):
    """After the first failure nothing is tried again: what is on the disk then, nobody knows."""
    env = FaultEnv(real_env(), NEVER, forever=forever, **FAULTS[name])
    cluster = LocalCluster(tmp_path)
    try:
        for node_id in cluster.configs:
            cluster.start(node_id, **({"env": env} if node_id == 1 else {}))
        cluster.put(cluster.leader(), b"before", b"v")
        leader = cluster.nodes[1]
        cluster.leader().transfer(1)
        cluster.put(leader, b"acknowledged", b"v")
        env.fail_at = env.calls + 1
        with pytest.raises(NodeError) as told:
            leader.propose([(b"lost", b"v")])
        assert leader.stopped.wait(PATIENCE_S)
        assert isinstance(leader.failure, OSError) and "/wal/" in env.fired.path
        assert "node 1: stops, because of" in capfd.readouterr().err
        for call in (lambda: leader.propose([(b"more", b"v")]), leader.read_barrier):
            with pytest.raises(NodeStopped):
                call()
        cluster.stop(1)
        other = cluster.leader()
        assert other.id != 1
        cluster.put(other, b"after", b"v")
        assert cluster.read(other, b"acknowledged") == b"v"
        env.fail_at = NEVER
        again = cluster.start(1)
        assert cluster.read(again, b"after") == b"v", f"it goes on when its disk is well again, after {told.value}"
    finally:
        cluster.__exit__()

"""The client port of a real node under hostile input: no 500, no dead thread, no end of the node, nothing that grows."""

import pytest

from server.http import FrontEnd, Limits
from tests.server.fake_node import Wire
from tests.server.hostile import Belongings, http_input, throw_all
from tests.server.local_nodes import LocalCluster

HASTY = Limits(head_s=0.5, body_s=0.5, idle_s=0.5, linger_s=0.2)


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_whatever_clients_send_the_node_goes_on_and_grows_by_nothing(tmp_path, seed, count):
    with LocalCluster(tmp_path, ["memory"], snapshot_entries=100, catch_up_entries=20) as cluster:
        node = cluster.leader()
        front = FrontEnd(node, ("127.0.0.1", 0), HASTY)
        front.start()
        try:
            assert throw_all(front.address, 400, f"{seed}:warm", http_input) == []
            belongings = Belongings()
            assert throw_all(front.address, count, f"{seed}", http_input) == []
            with Wire(front.address) as healthy:
                assert healthy.ask("PUT", "/after", b"v")[0] == 204
                assert healthy.ask("GET", "/after")[2] == b"v"
            belongings.assert_kept()
            metrics = front.metrics()
            assert 'http_answers_total{status="500"}' not in metrics
            assert metrics['http_answers_total{status="400"}'] > count / 10
            assert metrics['http_answers_total{status="204"}'] > count / 100
            assert front._slots.free() == front.limits.connections
            assert not node.stopped.is_set()
            assert node.failure is None
        finally:
            front.stop()

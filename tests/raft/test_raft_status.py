"""What a node says about itself (raft/status.py)."""

from __future__ import annotations

from raft import ConfState
from raft.kinds import ProgressState
from tests.raft.nodes import acknowledge, make_leader, make_peer


def test_the_status_is_a_copy_with_every_peer() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    status = leader.node.status()
    assert (status.id, status.term, status.vote, status.lead) == (1, 1, 1, 1)
    assert (status.commit, status.applied, status.last_index) == (1, 1, 1)
    assert status.conf_state == ConfState((1, 2, 3))
    assert {node_id: (p.match, p.state) for node_id, p in status.progress.items()} == {
        1: (1, ProgressState.REPLICATE),
        2: (1, ProgressState.REPLICATE),
        3: (0, ProgressState.PROBE),
    }
    assert {node_id: p.recent_active for node_id, p in status.progress.items()} == {1: True, 2: True, 3: False}
    leader.node.propose(b"x")
    assert status.last_index == 1
    assert make_peer(2).node.status().progress == {}

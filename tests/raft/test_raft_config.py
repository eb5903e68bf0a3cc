"""What a node has to be told (raft/config.py), and what it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raft import READ_ONLY_LEASE_BASED, RawNode
from tests.raft.nodes import make_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": 0}, "id must be"),
        ({"id": 2**64}, "id must be"),
        ({"heartbeat_tick": 0}, "heartbeat_tick"),
        ({"election_tick": 1}, "election_tick"),
        ({"max_inflight_msgs": 0}, "max_inflight_msgs"),
        ({"max_inflight_bytes": 5}, "max_inflight_bytes"),
        ({"max_inflight_bytes": -1}, "max_inflight_bytes"),
        ({"max_size_per_msg": -1}, "max_size_per_msg"),
        ({"max_committed_size_per_ready": -1}, "max_committed_size_per_ready"),
        ({"max_uncommitted_entries_size": -1}, "max_uncommitted_entries_size"),
        ({"applied": -1}, "applied"),
        ({"read_only_option": READ_ONLY_LEASE_BASED}, "needs check_quorum"),
        ({"read_only_option": 7}, "READ_ONLY_SAFE"),
    ],
)
def test_a_bad_configuration_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RawNode(make_config(**changes))


def test_lease_reads_need_the_check_of_the_quorum() -> None:
    """Without it no follower gives a lease, and no leader gives it up."""
    node = RawNode(make_config(read_only_option=READ_ONLY_LEASE_BASED, check_quorum=True))
    assert node.raft.config.read_only_option == READ_ONLY_LEASE_BASED

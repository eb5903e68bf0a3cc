"""The constants of quorum arithmetic: how a vote can stand, and the index that every empty set agrees on.

Follows etcd-io/raft: quorum/quorum.go.
"""

from __future__ import annotations

from typing import Final

from raft.kinds import VoteResult

__all__ = ["INFINITE_INDEX", "VOTE_LOST", "VOTE_PENDING", "VOTE_WON", "VoteResult"]

VOTE_PENDING: Final = VoteResult.PENDING
VOTE_LOST: Final = VoteResult.LOST
VOTE_WON: Final = VoteResult.WON

INFINITE_INDEX: Final = (1 << 64) - 1
"""What a configuration without voters has acknowledged: everything, so that the other half of a joint one decides."""

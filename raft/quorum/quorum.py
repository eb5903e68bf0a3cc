"""The constants of quorum arithmetic: how a vote can stand, and the index that every empty set agrees on.

Follows etcd-io/raft: quorum/quorum.go.
"""

from __future__ import annotations

from typing import Final

__all__ = ["INFINITE_INDEX", "VOTE_LOST", "VOTE_PENDING", "VOTE_WON"]

# Plain ints, compared on the path of every vote and acknowledgement.
VOTE_PENDING: Final = 1
VOTE_LOST: Final = 2
VOTE_WON: Final = 3

INFINITE_INDEX: Final = (1 << 64) - 1
"""What a configuration without voters has acknowledged: everything, so that the other half of a joint one decides."""

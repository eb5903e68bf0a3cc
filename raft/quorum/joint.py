"""Two majorities at once: while the membership changes, a decision needs both the old set's and the new one's.

`incoming` is the set being moved to, or simply the set in force; `outgoing` is empty unless a joint change is under way,
and an empty set agrees with everything.

Follows etcd-io/raft: quorum/joint.go; paper section 6, thesis section 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping

from raft.quorum.majority import MajorityConfig
from raft.quorum.quorum import VOTE_LOST, VOTE_PENDING, VOTE_WON, VoteResult

__all__ = ["JointConfig"]


class JointConfig:
    """A pair of majorities. Cost of every method: that of the two majorities."""

    __slots__ = ("incoming", "outgoing")

    def __init__(self, incoming: MajorityConfig, outgoing: MajorityConfig | None = None) -> None:
        self.incoming = incoming
        self.outgoing = outgoing if outgoing is not None else MajorityConfig()

    def ids(self) -> tuple[int, ...]:
        """All voters of both sets, ascending."""
        if not self.outgoing:
            return self.incoming.ids
        return tuple(sorted({*self.incoming, *self.outgoing}))

    def committed_index(self, acknowledged: Mapping[int, int]) -> int:
        """The largest index that both majorities have acknowledged."""
        if not self.outgoing.ids:
            return self.incoming.committed_index(acknowledged)
        return min(self.incoming.committed_index(acknowledged), self.outgoing.committed_index(acknowledged))

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Won if both are won, lost as soon as one is lost, else pending."""
        results = (self.incoming.vote_result(votes), self.outgoing.vote_result(votes))
        if VOTE_LOST in results:
            return VOTE_LOST
        if VOTE_PENDING in results:
            return VOTE_PENDING
        return VOTE_WON

    def __contains__(self, node_id: int) -> bool:
        return node_id in self.incoming or node_id in self.outgoing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JointConfig) and (self.incoming, self.outgoing) == (other.incoming, other.outgoing)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.incoming}&&{self.outgoing}" if self.outgoing else str(self.incoming)

"""A set of voters that decides by majority.

The committed index is the largest index that a majority has acknowledged: sort what each voter has acknowledged (0 if
nothing was heard) and take the one that a majority is at or above.

    voters 1 2 3, acknowledged 5 9 7      sorted 5 7 9      majority 2: at or above 7 are two      → 7
    voters 1 2 3 4, acknowledged 5 9 7 -  sorted 0 5 7 9    majority 3: at or above 5 are three    → 5

Follows etcd-io/raft: quorum/majority.go; paper section 5.3 and 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from raft.quorum.quorum import INFINITE_INDEX, VOTE_LOST, VOTE_PENDING, VOTE_WON, VoteResult

__all__ = ["MajorityConfig"]


class MajorityConfig:
    """Voters as a sorted tuple: every walk over it is in the same order, and a changed set is a new object."""

    __slots__ = ("ids",)

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self.ids: tuple[int, ...] = tuple(sorted(set(ids)))

    def committed_index(self, acknowledged: Mapping[int, int]) -> int:
        """The largest index that a majority of `ids` has acknowledged; INFINITE_INDEX without voters.

        acknowledged: for a node, the last index that it has; a node that isn't in it has nothing (0), and one that isn't
        among `ids` doesn't count. O(n log n), n ≤ 7 or so.
        """
        ids = self.ids
        if not ids:
            return INFINITE_INDEX
        indexes = sorted([acknowledged.get(node_id, 0) for node_id in ids])
        return indexes[(len(ids) - 1) // 2]

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """How a vote stands among `ids`: VOTE_WON if a majority has granted it, VOTE_LOST if a majority can't any more,
        VOTE_PENDING while the missing votes could still decide. VOTE_WON without voters.

        votes: True (granted) or False (refused) for each node that has answered; one that isn't among `ids` doesn't
        count. A majority of n is n // 2 + 1: half of an even number is none. O(n).
        """
        ids = self.ids
        if not ids:
            return VOTE_WON
        quorum = len(ids) // 2 + 1
        granted = missing = 0
        for node_id in ids:
            vote = votes.get(node_id)
            if vote is None:
                missing += 1
            elif vote:
                granted += 1
        if granted >= quorum:
            return VOTE_WON
        if granted + missing >= quorum:
            return VOTE_PENDING
        return VOTE_LOST

    def __contains__(self, node_id: int) -> bool:
        return node_id in self.ids

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MajorityConfig) and self.ids == other.ids

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "(" + " ".join(map(str, self.ids)) + ")"

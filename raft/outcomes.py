"""What became of a proposal: committed, dropped, or unknown.

`RawNode.propose_batch` raises `ProposalDroppedError` if nothing was written anywhere. If it returns, the proposal has a
*place* in the leader's log, an index and a term, and what is applied at that index decides:

    place (index 7, term 3)        applied: 7/3 → COMMITTED       applied: 7/4 → DROPPED, another leader has replaced it
                                   a snapshot at 9 came instead, or nobody waits any longer → UNKNOWN

An entry that is replaced can't come back: index 7 is committed with another one. A proposal that a follower has passed
on has no place here; its driver marks the data and looks for the mark among the applied entries, or doesn't learn more
than UNKNOWN. Unknown is never the same as failed: it may be committed yet, so a client that tries again may do it twice
(thesis section 6.3 has sessions for that).

Follows hashicorp/raft's futures in purpose; etcd leaves this to its server.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from raft.raftpb import Entry

__all__ = ["Outcome", "Outcomes", "Place"]

Token = TypeVar("Token")


class Outcome(Enum):
    """COMMITTED: it is applied. DROPPED: it never will be. UNKNOWN: it may be or may be yet."""

    COMMITTED = "committed"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


class Place(NamedTuple):
    """Where a proposal's first entry is in the leader's log."""

    first_index: int
    term: int


class Outcomes(Generic[Token]):
    """The proposals that a driver waits for, each under a token of its own: a future, a request, a number."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[int, Token]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, place: Place, token: Token) -> None:
        """Waits for what is applied at this place. O(1)."""
        self._waiting.setdefault(place.first_index, []).append((place.term, token))

    def applied(self, entries: Sequence[Entry]) -> list[tuple[Token, Outcome]]:
        """The committed entries of a Ready are applied: whose proposals were they? In order of index. O(entries)."""
        decided = []
        for entry in entries:
            for term, token in self._waiting.pop(entry.index, ()):
                decided.append((token, Outcome.COMMITTED if term == entry.term else Outcome.DROPPED))
        return decided

    def installed(self, index: int) -> list[tuple[Token, Outcome]]:
        """A snapshot at `index` has come in place of entries, so nobody here learns which they were. O(n log n)."""
        passed = sorted(waiting for waiting in self._waiting if waiting <= index)
        return [(token, Outcome.UNKNOWN) for waiting in passed for _, token in self._waiting.pop(waiting)]

    def end(self) -> list[tuple[Token, Outcome]]:
        """The node stops, or the driver no longer waits for any of them. O(n log n)."""
        return self.installed(max(self._waiting, default=0))

"""What a node does when the members change: whom it calls, whom it hears, and that it stops when it is none of them.

    an entry that changes the members is applied ──▶ another address book ──▶ roster: who is heard, with which directory
    or a snapshot with another book is loaded                             ├─▶ transport: who is called, and where
                                                                          └─▶ is this node still one of them? ──▶ NodeRemoved

A node learns that it was removed in one of two ways: it applies the entry that says so; or, if it was away, from any member
that it calls, which refuses it for good (server/roster.py, Gone). Either way its directory says so before it stops.

Invariants:

1. Whom a node calls and hears follows what is applied here, in the thread that applies, and never runs ahead of it.
2. A directory that was let in by an entry which isn't applied here yet doesn't count time: it never campaigns before it
   knows the members that it would have to win. Its votes do no harm: a majority without it has that entry, and so no
   candidate that hasn't wins (thesis 4.1; the argument is that of a new member with an empty log).
3. A node that was removed takes part in nothing any more, and neither does its directory after a restart.

Follows etcd's server/etcdserver/server.go (applyConfChange, shouldStop) and rafthttp, whose removed members get 410.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from server.address_book import AddressBook, Applying
from server.addresses import url_of
from server.config import Peers
from server.directory import Directory
from server.errors import NodeRemoved
from server.roster import Roster
from server.transport import Transport

__all__ = ["Membership"]


class Follower(Protocol):
    """Who else has to know where the members are."""

    def follow(self, peers: Peers) -> None: ...


class Membership:
    """One node's standing among the members. For the node's thread."""

    def __init__(
        self, directory: Directory, kept: AddressBook, machine: Applying, was_removed: Callable[[str], None]
    ) -> None:
        """Begins with the book that the engine has at the node's start, before anybody is called. Raises NodeRemoved.

        was_removed: called by the roster, in any thread, if a member says so; it has to have `leave` called.
        """
        self._kept = kept
        self._machine = machine
        self._directory = directory
        self.roster = Roster(directory.identity, directory.remember, directory.keep_out, was_removed, directory.admit)
        self.removed = ""
        self._seen = kept.book
        self.roster.follow(self._seen, machine.applied_index)
        if why := self.roster.removal():
            self.leave(why)

    def follow(self, transport: Transport, others: Follower, answer: Callable[[], None]) -> None:
        """Goes by the book of what is applied now, if it is another one. Raises NodeRemoved. O(1) if nothing changed.

        answer: tells those who wait for the change.
        """
        book = self._kept.book
        if book is self._seen:
            return
        self._seen = book
        gone = self.roster.follow(book, self._machine.applied_index)
        answer()
        if why := self.roster.removal():
            self.leave(why)
        transport.follow(gone)
        others.follow(self.roster.addresses())

    def leave(self, why: str) -> None:
        """This node was removed; `why` says by which entry, or who says so. Raises NodeRemoved, always."""
        self.removed = (
            f"{why}: it stops, and its directory takes no part any more. To have it back, add it anew (metcd member add "
            f"{self.roster.node_id} URL --learner), and start it with --join and an empty --data"
        )
        self._directory.remove(self.removed)
        raise NodeRemoved(self.removed)

    def describe(self, leader: int, view: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """The cluster and its members, ready for JSON. view: what the leader knows of each, if this node leads."""
        identity, book = self._directory.identity, self._kept.book
        return {
            "cluster": f"{identity.cluster_id:016x}",
            "token": identity.token,
            "first": {str(node): f"http://{address}" for node, address in sorted(identity.members.items())},
            "leader": leader,
            "members": [
                {
                    "id": node,
                    "peer_url": url_of(*member.address),
                    "learner": member.learner,
                    "admitted": member.admitted,
                    **view.get(node, {"reachable": None, "behind": None, "caught_up": None}),
                }
                for node, member in sorted(book.members.items())
            ],
        }

    def may_campaign(self) -> bool:
        """Whether the entry that let this directory in is applied here (invariant 2)."""
        return self._machine.applied_index >= self.roster.admitted

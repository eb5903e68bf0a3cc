"""Which directory each member came with: what keeps out a node that has lost its own, or was given an older one.

Two nodes that meet tell each other who they are, and what they remember of all members. Each judges the other:

    the other says                                   what follows
    another cluster                                  refused, by both
    an id that isn't a member's, or one's own        refused
    a number that isn't the one remembered           refused: its directory isn't the one that has promised
    fewer starts than remembered, or another         refused: an older copy of its directory was put back
      session at the start that is remembered
    it remembers another number of me, or a later    refused, and I am kept out: I must not vote, campaign or
      start                                            acknowledge, for I don't know what I have promised
    none of that                                     heard; its number, its starts and its session are remembered on disk first

A node that is kept out stays so until it is started with the right directory: its own says so from then on, since those
who know better may be away at its next start. Who is refused isn't counted: nothing that it
sends is read, and nothing is sent to it.

Invariants:

1. What is remembered of a member is on disk before a message of its is read or sent.
2. A number, once remembered, is never replaced. A start is replaced only by a later one of a directory that knows it.
3. What members remember spreads: a member that has met another one tells those that have not. So a member that has lost its
   directory is refused also by those that it never talked to. Hearsay never replaces what a node has seen itself.

What can't be told: a member that nobody whom it can reach has ever met is a new member, whether it is or not (two nodes of
three that begin anew while the third, which knows better, is away). And an older copy of a directory is told only by those
that have met a start which came after the copy; if there was none, by the leader, which knows what was acknowledged (raft,
LogLostError).

For any thread. No input or output but through `remember`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from server.errors import WAY_OUT
from server.identity import Identity, Met

__all__ = ["Hello", "Roster"]


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself when a connection begins.

    members: its first list, in words. known: invariant 3. past: what it drew at the starts that it remembers.
    """

    cluster_id: int
    node_id: int
    met: Met
    members: str = ""
    known: Mapping[int, Met] = field(default_factory=dict)
    past: Mapping[int, int] = field(default_factory=dict)


class Roster:
    """One node's memory of the members' directories, its own among them."""

    def __init__(
        self,
        identity: Identity,
        remember: Callable[[dict[int, Met]], None],
        keep_out: Callable[[str], None] | None = None,
    ) -> None:
        """identity: at this start. remember: writes to disk what is new, and that a member hears; returns when it is there.

        keep_out: the same for why this node is kept out.
        """
        self.cluster_id = identity.cluster_id
        self.node_id = identity.node_id
        self.kept_out = identity.kept_out  # why this node must not take part; "" if it may
        self._members = ", ".join(f"{node} at {address}" for node, address in identity.members.items())
        self._ids = frozenset(identity.members)
        self._past = identity.sessions
        self._me = Met(identity.number, identity.starts, identity.sessions[identity.starts])
        self._heard = False
        self._met = {node: met for node, met in identity.met.items() if node != self.node_id}
        self._known = frozenset((*self._met, self.node_id))  # asked for with each frame that is sent
        self._remember = remember
        self._keep_out = keep_out
        self._guard = threading.Lock()

    def known(self) -> frozenset[int]:
        """The members whose directories are known, this node among them. It only grows."""
        return self._known

    def hello(self) -> Hello:
        """What this node says of itself now."""
        known = {**self._met, self.node_id: self._me}
        return Hello(self.cluster_id, self.node_id, self._me, self._members, known, self._past)

    def judge(self, hello: Hello) -> str:
        """Takes in what a node says of itself: "" if it may be heard, or a sentence that says why not.

        What is new of it is on disk before "" is returned; that it can't be written is a reason, too.
        """
        with self._guard:
            return self._stranger(hello) or self._kept_out(hello) or self._changed(hello) or self._note(hello)

    def _stranger(self, hello: Hello) -> str:
        if hello.cluster_id != self.cluster_id:
            return (
                f"node {hello.node_id} is of cluster {hello.cluster_id:016x}, begun by the nodes {hello.members}, and "
                f"node {self.node_id} of cluster {self.cluster_id:016x}, begun by the nodes {self._members}: start both "
                "with the same --cluster and --cluster-token, each on its own directory of that cluster"
            )
        if hello.node_id == self.node_id:
            return f"a second node {self.node_id} is running: give each node its own --id and --data"
        if hello.node_id not in self._ids:
            return f"node {hello.node_id} is not a member of cluster {self.cluster_id:016x}"
        return ""

    def _kept_out(self, hello: Hello) -> str:
        """Whether the other remembers another directory of this node."""
        remembered = hello.known.get(self.node_id)
        why = _difference(self.node_id, remembered, self._me, self._past) if remembered is not None else ""
        if why and not self.kept_out:
            self.kept_out = f"node {hello.node_id} remembers that {why}"
            # a member that has lost its own directory isn't a witness whose word outlives a restart
            if self._keep_out is not None and not self._changed(hello):
                with contextlib.suppress(OSError):  # the node is kept out at this start in any case
                    self._keep_out(self.kept_out)
        return self.kept_out

    def _changed(self, hello: Hello) -> str:
        remembered = self._met.get(hello.node_id)
        return _difference(hello.node_id, remembered, hello.met, hello.past) if remembered is not None else ""

    def _note(self, hello: Hello) -> str:
        """Remembers the other, and those whom it knows and this node does not."""
        told = {node: met for node, met in hello.known.items() if node in self._ids and node not in self._met}
        new = {node: met for node, met in told.items() if node != self.node_id}
        if self._met.get(hello.node_id) != hello.met:
            new[hello.node_id] = hello.met
        if new or not self._heard:
            try:
                self._remember(new)
            except OSError as error:
                return (
                    f"node {self.node_id} can't write down with which directory node {hello.node_id} came: {error}; "
                    "until it can, it hears nobody who is new"
                )
            self._met = {**self._met, **new}
            self._known = frozenset((*self._met, self.node_id))
            self._heard = True
        return ""


def _difference(node: int, remembered: Met, met: Met, past: Mapping[int, int]) -> str:
    """Why `met` can't be the directory that is remembered, as it goes on; "" if it can."""
    if met.number != remembered.number:
        return (
            f"node {node} came with directory {remembered.number:016x}, and now it comes with {met.number:016x}, which "
            f"doesn't know what node {node} has promised: it must not vote and is not counted; {WAY_OUT}"
        )
    if past.get(remembered.starts) != remembered.session:
        return (
            f"node {node} was met at start {remembered.starts} of its directory, and now it comes with start "
            f"{met.starts} and doesn't know that one: an older copy was put back, which doesn't know what node {node} has "
            f"promised since: it must not vote and is not counted; {WAY_OUT}"
        )
    return ""

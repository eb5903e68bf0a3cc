"""Whether a node can do its work, since when, and what is missing if it can't.

    a leader      is healthy if a majority answers it within an election timeout
    a follower    is healthy if its leader answers it within one
    any node      is alive if its thread runs; /_/health?serializable=true asks no more than that, as etcd's does

To be heard is not to hear: a node whose outgoing links are dead hears every heartbeat and can do nothing. So the
question is put to the cluster, as a linearizable read is: one ReadIndex round, which needs both directions, and which
reads that are on their way share. The times at which others were heard only explain the answer.

Follows etcd's /health, which makes such a read. Left out: alarms, and a health of the disk: a disk that fails ends the
node, and one that hangs leaves the round without an answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from server.addresses import url_of
from server.config import Peers
from server.feed_taps import Taps
from server.metrics import Metrics, describe

__all__ = ["Contact", "Health"]


describe(
    {
        "elections_total": "Elections that this node has called for, with or without success.",
        "leader_changes_total": "Leaders that this node has begun to follow, or to be.",
    }
)

_CAMPAIGNS = ("candidate", "pre_candidate")


class Health(NamedTuple):
    """`report` is ready for JSON; in it, seconds tell how long something has been so."""

    healthy: bool
    report: dict[str, Any]


class Contact:
    """What a node has heard from the others. The node's thread writes it; any thread may read it, a moment late."""

    def __init__(self, own_id: int, peers: Peers, silence_s: float, now: float) -> None:
        """`silence_s`: a member that was not heard for so long is missing: an election timeout. `now`: Env.now()."""
        self._own_id = own_id
        self.taps: Taps | None = None
        self._peers = peers
        self.silence_s = silence_s
        self._begun = now
        self._role = ("follower", 0, 0)  # role, leader, term
        self._role_since = now
        self._confirmed: float | None = None
        self._elections = self._leader_changes = 0
        self._heard: dict[int, float] = {}

    def metrics(self) -> Metrics:
        """Elections that this node has called for, and leaders that it has seen come."""
        return {"elections_total": self._elections, "leader_changes_total": self._leader_changes}

    def follow(self, peers: Peers) -> None:
        """The members are others now, or elsewhere."""
        self._peers = peers

    def heard(self, node_id: int, now: float) -> None:
        """A message from a member arrived."""
        self._heard[node_id] = now

    def heard_ago_s(self, node_id: int, now: float) -> float:
        """How long ago a member was heard; infinite if it never was."""
        return now - self._heard.get(node_id, float("-inf"))

    def lately(self, now: float) -> set[int]:
        """The members that were heard within an election timeout."""
        return {node for node, at in self._heard.items() if now - at < self.silence_s}

    def confirmed(self, now: float) -> None:
        """A majority has confirmed this leader, or this follower's leader."""
        self._confirmed = now

    def became(self, role: str, leader: int, term: int, now: float) -> None:
        """Role, leader and term, each time that they are published."""
        if (role, leader, term) != self._role:
            before, led_by, _ = self._role
            if (role in _CAMPAIGNS and (before not in _CAMPAIGNS or role == before)) or (
                role == "leader" and before == "follower"
            ):
                self._elections += 1
            if leader and leader != led_by:
                self._leader_changes += 1
            if self.taps is not None:
                self.taps.event("role", before, role, leader, term)
            self._role = (role, leader, term)
            self._role_since = now

    def health(self, failure: str | None, connected: dict[int, bool], now: float) -> Health:
        """The answer to a question that was just put to the cluster; `failure` says why no answer came."""
        role, leader, term = self._role
        report: dict[str, Any] = {"healthy": failure is None, "id": self._own_id, "role": role, "leader": leader}
        report |= {"term": term, "role_since_s": _seconds(now - self._role_since)}
        members = {
            str(peer): {
                "url": url_of(host, port),
                "heard_s_ago": _seconds(now - self._heard[peer]) if peer in self._heard else None,
                "connected": connected.get(peer, False),
            }
            for peer, (host, port) in sorted(self._peers.items())
            if peer != self._own_id
        }
        if failure is not None:
            since = self._begun if self._confirmed is None else self._confirmed
            report |= {"since_s": _seconds(now - since), "error": self._sentence(now - since, failure, now)}
            report["missing"] = self._missing(now)
        return Health(failure is None, {**report, "members": members})

    def _missing(self, now: float) -> list[int]:
        """The members that should have been heard, and were not: followers of one leader have nothing to say to each other."""
        leader = self._role[1]
        expected = sorted(self._peers) if leader in (0, self._own_id) else [leader]
        lately = now - self.silence_s
        return [peer for peer in expected if peer != self._own_id and self._heard.get(peer, lately - 1) < lately]

    def _sentence(self, since_s: float, failure: str, now: float) -> str:
        leader = self._role[1]
        missing = self._missing(now)
        names = " or ".join(f"node {peer}" for peer in missing)
        silent = f"nothing is heard from {names}" if missing else "every node is heard"
        if leader == self._own_id:
            return f"This node leads, and no majority has answered it for {since_s:.1f} s: {silent}."
        if not leader:
            return f"No leader is known, and no read was confirmed for {since_s:.1f} s: {silent}; {failure}."
        if leader in missing:
            return f"Node {leader} leads, and has neither been heard nor answered for {since_s:.1f} s."
        return (
            f"Node {leader} leads and is heard, and has not answered this node for {since_s:.1f} s: "
            "what this node sends may not arrive, or the leader may have no majority."
        )


def _seconds(seconds: float) -> float:
    return round(max(0.0, seconds), 3)

"""How a node with an empty directory comes to know the cluster that it joins: it asks a running member.

    GET /_/members of the node named in --join ──▶ cluster id and first list: whose directory this will be (server/identity.py)
                                                 ├▶ where the members are now: whom to call and to hear at first
                                                 └▶ the entry that let this node in: which of its directories this is

What it is told is only believed as far as the members prove it: they talk to nobody who isn't of their cluster, and a node
that was told of another one is refused by all of them.
"""

from __future__ import annotations

from typing import Any

from server.addresses import parse_url
from server.config import Joining
from server.errors import NodeError

__all__ = ["JoinRefused", "joining_of"]


class JoinRefused(NodeError):
    """This node can't join; the sentence says why."""


def joining_of(report: Any, node_id: int) -> Joining:
    """What a member's answer to GET /_/members says to node `node_id`. Raises JoinRefused."""
    try:
        members = {int(each["id"]): parse_url(each["peer_url"]) for each in report["members"]}
        admitted = {int(each["id"]): int(each["admitted"]) for each in report["members"]}
        first = {int(node): parse_url(url) for node, url in report["first"].items()}
        cluster_id, token = int(report["cluster"], 16), bool(report["token"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JoinRefused(f"what the node answered is no list of members: {error!r}") from None
    if node_id not in members:
        raise JoinRefused(
            f"node {node_id} is not a member: add it first (metcd member add {node_id} URL --learner); the members are "
            + ", ".join(map(str, sorted(members)))
        )
    if not admitted[node_id]:
        raise JoinRefused(
            f"node {node_id} is one of those that the cluster began with, and has its directory: start it on that one. If "
            f"that is lost, let it in anew: metcd member replace {node_id} URL"
        )
    return Joining(cluster_id, token, first, members, admitted[node_id])

"""A node's quota: beyond it, the node has the alarm NOSPACE raised, and room has to be made.

    Standing.tick ──▶ Quota.due ── is the store at its quota, and this node's alarm not raised? ──▶ AlarmRequest, into the log

That is all: what a raised alarm refuses, on /v3 and on the simple routes, follows from its entry (server/v3/alarms.py). So a
write is looked at by nobody, in the plain form and in the fast ones, and without a quota nobody looks at the size either.

1. Each node looks at its own store: engines take different room for the same keys. Each raises for itself, and several may.
2. One proposal is under way at a time: it is made again after RAISE_AGAIN_S, in case that it was lost.
3. The alarm is ended by clients alone. As long as the store is at its quota, the next tick raises it again.

By how much a quota is exceeded: by the writes that come before the alarm's entry in the log. Those are a tick's and those of
the round to a majority, or of RAISE_AGAIN_S more if the proposal was lost; UNCOMMITTED_BYTES_MAX bounds what a leader takes
meanwhile. etcd looks before each put, txn and lease/grant, and refuses the one that crosses the line; server/GATEWAY.md has
what else is different. The size is `KVStore.size_bytes`, which maintenance/status tells as dbSize.

Follows etcd's server/etcdserver/quota.go and api/v3rpc/quota.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from server.logs import Minutely, logger
from server.v3 import rpc
from server.v3.alarms import Alarms

__all__ = ["RAISE_AGAIN_S", "Quota"]

RAISE_AGAIN_S = 1.0


class Quota:
    """Has this node's NOSPACE raised. For the node's thread."""

    def __init__(self, member: int, quota_bytes: int, size_bytes: Callable[[], int], alarms: Alarms) -> None:
        """size_bytes: of the node's store; it is called once a tick."""
        self._member, self._quota_bytes, self._size_bytes, self._alarms = member, quota_bytes, size_bytes, alarms
        self._asked_at = -math.inf
        self._complaints = Minutely(logger())

    def due(self, now: float) -> rpc.InternalRaftRequest | None:
        """What is to be proposed now, if anything is. now: seconds. Requires: a leader is known, and this is a member."""
        if (self._member, rpc.AlarmType.NOSPACE) in self._alarms.raised:
            self._asked_at = -math.inf
            return None
        if now - self._asked_at < RAISE_AGAIN_S or (size := self._size_bytes()) < self._quota_bytes:
            return None
        self._asked_at = now
        self._complaints.say(
            f"node {self._member}: its store takes {size:,} bytes, and --quota-backend-bytes is {self._quota_bytes:,}: it "
            "raises the alarm NOSPACE. Delete, compact and defragment, then disarm it"
        )
        activate = rpc.AlarmRequest.AlarmAction.ACTIVATE
        return rpc.InternalRaftRequest(alarm=rpc.AlarmRequest(activate, self._member, rpc.AlarmType.NOSPACE))

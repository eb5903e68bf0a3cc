"""One node's part in what members are and how they are, in one place: names and URLs, alarms; tied to the node.

    Etcd ── attach ─▶ Standing ─┬─ attributes    server/v3/attributes.py    what all members have published
                                ├─ publisher     the same                   that this node does
                                ├─ alarms        server/v3/alarms.py        what is wrong, and forbidden meanwhile
                                ├─ quota         server/v3/quota.py         that this node's store has become too large
                                └─ health        how often GET /health said what

and the entries that change them: alarm, cluster_member_attr_set, downgrade_info_set.

Follows etcd's server/etcdserver/server.go, where it meets membership and alarms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from server.address_book import AddressBook
from server.config import NodeConfig
from server.mvcc import Writes
from server.statemachine import OwnKeys, StateMachine
from server.v3 import rpc
from server.v3.alarms import Alarms
from server.v3.attributes import Attributes, Publisher, Said
from server.v3.messages import Message
from server.v3.quota import Quota

__all__ = ["HealthCounts", "Standing", "alarm", "downgrade_info_set", "member_attr_set"]


class Node(Protocol):
    """The part of server.node.Node that is asked here."""

    id: int

    @property
    def config(self) -> NodeConfig: ...
    @property
    def members(self) -> AddressBook: ...
    @property
    def machine(self) -> StateMachine: ...


class Proposing(Protocol):
    """What has something proposed by itself."""

    def due(self, now: float) -> rpc.InternalRaftRequest | None: ...


class HealthCounts:
    """How often /health said what. For any thread."""

    def __init__(self) -> None:
        self.success = self.failures = 0
        self._guard = threading.Lock()

    def count(self, healthy: bool) -> None:
        """Another answer."""
        with self._guard:
            self.success += healthy
            self.failures += not healthy


class Standing:
    """`tick` is for the node's thread, `published` for any."""

    def __init__(self) -> None:
        self._node: Node | None = None
        self._publisher: Publisher | None = None
        self._proposing: Sequence[Proposing] = ()
        self.alarms = Alarms()
        self.attributes = Attributes(lambda: () if self._node is None else self._node.members.book.members)
        self.health = HealthCounts()
        self.own_keys: list[OwnKeys] = [self.alarms, self.attributes]

    def attach(self, node: Node, propose: Callable[[rpc.InternalRaftRequest], object]) -> None:
        """The node is there. propose: what nobody waits for; for the node's thread."""
        self._node, self._propose = node, propose
        config = node.config
        said = Said(config.name, config.client_urls)
        self._publisher = Publisher(node.id, said, self.attributes)
        self._proposing = [self._publisher]
        if config.quota_bytes:
            quota = Quota(node.id, config.quota_bytes, node.machine.store.size_bytes, self.alarms)
            self._proposing = [quota, self._publisher]

    @property
    def published(self) -> bool:
        """Whether what this node says of itself is kept."""
        return self._publisher is not None and self._publisher.published

    def tick(self, now: float, leader: int) -> None:
        """A tick of the node: what it says of itself, and that it has no space, is proposed, if it isn't kept and a leader is
        known."""
        node = self._node
        if node is None or not leader or node.id not in node.members.book.members:
            return
        for part in self._proposing:
            if (request := part.due(now)) is not None:
                self._propose(request)


# ---- while applying -------------------------------------------------------------------------------------------------


def alarm(tables: Any, proposed: Any, request: rpc.AlarmRequest, writes: Writes) -> Message:
    """Raises an alarm, ends one, or tells of them."""
    found = tables.alarms.change(request)
    return rpc.AlarmResponse(tables.header(writes.revision), found)


def member_attr_set(tables: Any, proposed: Any, request: rpc.ClusterMemberAttrSetRequest, writes: Writes) -> Message:
    """A member has published what it is."""
    tables.attributes.set(proposed.index, request)
    return request


def downgrade_info_set(tables: Any, proposed: Any, request: rpc.DowngradeInfoSetRequest, writes: Writes) -> Message:
    """Somebody wants to go back to another version, or doesn't any more."""
    tables.alarms.set_downgrade(request)
    return request

"""Who asks for a simple write, on its way through the log; and what may refuse the write where it is applied.

    PUT /hello, Authorization: …  ──▶ [Principal, put] in a proposal ──▶ log ──▶ StateMachine, on every node
                                                                                 └─ guard ──▶ the put, or an error

While authentication is on, a simple write carries the user's name and the auth revision against which its node has permitted
it, as etcd's requests do in their header. Between the permission and the entry the right may have been taken away, or an
alarm raised; so what is true at the entry decides, on every node alike.

Follows etcd's server/etcdserver/apply_auth.go and, for alarms, apply.go (applierV3Capped, applierV3Corrupt).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engines.kvstore import Operation
from server.errors import NodeError

__all__ = ["Guard", "Principal"]


class Principal(NamedTuple):
    """A user, and the revision of the users and roles that permitted the write. In a proposal before its puts and deletes."""

    username: str
    auth_revision: int


Guard = Callable[[Principal | None, Sequence[Operation]], NodeError | None]
"""Who asks, None if the proposal doesn't say, and the puts and deletes of the entry: why they are refused, all of them, or None.
The same on every node, as it follows from its arguments and what earlier entries did."""

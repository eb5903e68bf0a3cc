"""One node's part in watches and streams, in one place, tied to the node.

    Etcd ── attach ─▶ Watching ─┬─ streams   server/v3/streams.py         the connections of streams, and their thread
                                ├─ hub       server/v3/watch_hub.py       who watches what
                                └─ watches   server/v3/watch_service.py   what clients are told

Follows etcd's server/etcdserver/api/v3rpc/watch.go, where it meets the store.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from server.metrics import Metrics
from server.mvcc import View
from server.mvcc_rows import State
from server.v3.streams import Streams
from server.v3.subscription import Subscription
from server.v3.watch_hub import WatchHub
from server.v3.watch_index import TO_THE_END
from server.v3.watch_service import Watches

__all__ = ["Watching"]


class Machine(Protocol):
    """The part of server.statemachine.StateMachine that is asked here."""

    def view(self) -> AbstractContextManager[View]: ...
    @property
    def revisions(self) -> State | None: ...


class Watching:
    """`attach` comes before the node starts, `close` when it has stopped; the rest is for any thread."""

    def __init__(self, etcd: Any) -> None:
        """etcd: server.v3.etcd.Etcd, for services."""
        self._machine: Machine | None = None
        self.watches = Watches()
        self.streams = Streams(etcd)
        self.streams.at_sweep(self.watches.sweep)
        self.hub = WatchHub(self._view, self._revision, self.streams.call)

    def attach(self, machine: Machine) -> None:
        """The node's state machine is there."""
        self._machine = machine

    def _view(self) -> AbstractContextManager[View]:
        assert self._machine is not None
        return self._machine.view()

    def _revision(self) -> int:
        assert self._machine is not None
        state = self._machine.revisions
        return 1 if state is None else state.revision

    def subscribe(self, key: bytes, range_end: bytes = b"", start_revision: int = 0) -> Subscription:
        """The changes of a key or a range, as a request names it, for a thread of the server."""
        stop = None if not range_end else TO_THE_END if range_end == b"\0" else range_end
        call: Callable[[Callable[[], object]], object] = self.streams.call
        return Subscription(self.hub, call, key, stop, start_revision)

    def close(self) -> None:
        """Ends all streams."""
        self.streams.stop()

    def metrics(self) -> Metrics:
        """Of streams and watches."""
        return {**self.streams.metrics(), **self.hub.metrics()}

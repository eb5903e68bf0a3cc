"""A receiver of what peers send that keeps everything, for tests of what stands in front of a node."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

from raft.raftpb import Message
from server.snapshot_wire import Announced


class Inbox:
    """A receiver that keeps everything."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.losses: queue.SimpleQueue[tuple[int, list[Message]]] = queue.SimpleQueue()
        self.sent_snapshots: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
        self.snapshots: queue.SimpleQueue[tuple[Message, bytes]] = queue.SimpleQueue()
        self.refuse_snapshots = False

    def receive(self, messages: list[Message]) -> None:
        for message in messages:
            self.messages.put(message)

    def receive_snapshot(self, message: Message, file: Announced, rest: Callable[[int], Iterator[bytes]]) -> None:
        content = b"".join(rest(0))
        if self.refuse_snapshots:
            raise ValueError("the trailer is missing")
        self.snapshots.put((message, content))

    def unreachable(self, node_id: int, dropped: list[Message]) -> None:
        self.losses.put((node_id, dropped))

    def snapshot_sent(self, node_id: int, delivered: bool) -> None:
        self.sent_snapshots.put((node_id, delivered))

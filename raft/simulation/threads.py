"""The two threads of a driver with asynchronous storage writes (raft/storage_writes.py), as two queues without threads.

    node.ready() ──► MsgStorageAppend ──► appends: written and synced in order ──► responses
                 ──► MsgStorageApply  ──► applies: applied in order            ──► responses

The simulation decides when the first message of each queue is done; meanwhile more Readys are taken, and more messages
queue up. A crash loses both queues, but a part of the write that was going on may be on disk.
"""

from __future__ import annotations

from collections import deque

from raft.kinds import MessageType
from raft.raftpb import HardState, Message
from raft.simulation.disk import Record, records_of
from raft.simulation.peer import Peer
from raft.state import ReadState

__all__ = ["Threads"]


class Threads:
    """The queues of one start of one peer. appending, applying: whether the first of each is being worked on."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.appends: deque[Message] = deque()
        self.applies: deque[Message] = deque()
        self.appending = self.applying = False

    def hand_out(self) -> tuple[list[Message], list[ReadState]]:
        """Takes a Ready and queues its work; returns the messages for the network, and the reads."""
        ready = self.peer.node.ready()
        for_network = []
        for message in ready.messages:
            if message.type == MessageType.STORAGE_APPEND:
                self.appends.append(message)
            elif message.type == MessageType.STORAGE_APPLY:
                self.applies.append(message)
            else:
                for_network.append(message)
        return for_network, ready.read_states

    def records(self) -> list[Record]:
        """What the write that is going on wants on disk, in order."""
        return self.records_of(self.appends[0]) if self.appends else []

    @staticmethod
    def records_of(message: Message) -> list[Record]:
        """What a MsgStorageAppend wants on disk, in order."""
        return records_of(message.snapshot, message.entries, HardState(message.term, message.vote, message.commit))

    def append(self) -> list[Message]:
        """Ends the first write; returns its responses."""
        records = self.records()
        message = self.appends.popleft()
        self.peer.store(records, sync=bool(message.responses))
        if message.snapshot is not None:
            self.peer.install(message.snapshot)
        return list(message.responses)

    def apply(self) -> list[Message]:
        """Applies the first entries; returns the responses."""
        message = self.applies.popleft()
        self.peer.apply(message.entries)
        return list(message.responses)

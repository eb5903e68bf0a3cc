"""Linearizable reads without a log entry: which reads wait, and which heartbeats have confirmed them.

A leader that is asked to read notes its commit index, and then has to learn that it still was the leader after it was
asked: some quorum must answer a heartbeat that was sent later. Each request gets the next *position*; a heartbeat
carries the position of the last request before it, and its response brings that back:

    requests        position 1    2    3    4              a request with index 17 and position 2 may be answered
    acknowledged by node 1 (self) ────────► 4              once a quorum has acknowledged position 2 or more
                    node 2 ──────► 2
                    node 3 ───────────► 3                  sorted 2 3 4 → a quorum is at 3: positions 1 to 3 are done

Invariants
 1. Positions only grow while this node leads in a term, and a new term starts over: responses of an old term never
    get here (Raft.step drops them).
 2. What is acknowledged by a node is the maximum of what it sent back. Late and repeated responses change nothing.
 3. Requests are answered in the order in which they came.

The positions are this leader's own. Earlier versions of etcd sent the client's context instead and looked requests up
by it; a client that asked again with the same context was then confirmed by the late answers to its first request,
heartbeats that were sent before the second (stale reads, etcd#20418).

A lease (lease.py) is the same the other way round: every heartbeat gets a position, and the newest one that a quorum has
answered says when a majority was last known to follow.

One heartbeat confirms all reads queued before it. The queue is bounded: when it is full, a request is dropped like a
message that the network has lost, and its sender asks again.

Follows etcd-io/raft: read_only.go as of v3.7; thesis section 6.4.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from raft.quorum import JointConfig
from raft.raftpb import Message

__all__ = ["MAX_PENDING_READS", "ReadOnly"]

MAX_PENDING_READS: Final = 65_536

_POSITION = struct.Struct("<Q")


class ReadOnly:
    """The reads that wait at a leader, in order of position."""

    __slots__ = ("_acknowledged", "_last_position", "_pending", "_rounds", "lease_is_void", "ticks")

    def __init__(self) -> None:
        self._last_position = 0
        # (position, tick) of the heartbeats that may still prolong the lease.
        self._rounds: deque[tuple[int, int]] = deque()
        self.ticks = 0
        self.lease_is_void = False
        self._pending: deque[tuple[int, int, Message]] = deque()
        self._acknowledged: dict[int, int] = {}

    def add_request(self, leader_id: int, index: int, request: Message) -> None:
        """Queues a read of the state at `index`, confirmed by the leader itself, unless the queue is full. O(1).

        Requires: `index` is the commit index, and an entry of the leader's term is committed (etcd#7331).
        """
        if len(self._pending) >= MAX_PENDING_READS:
            return
        self._last_position += 1
        self._pending.append((self._last_position, index, request))
        self._acknowledged[leader_id] = self._last_position

    def heartbeat_context(self) -> bytes:
        """What the next heartbeat carries: the last position, or nothing if no read and no lease waits for it."""
        return _POSITION.pack(self._last_position) if self._pending or self._rounds else b""

    def open_round(self, leader_id: int, useful_ticks: int) -> None:
        """The heartbeats that are sent now have a position of their own, so that their answers prolong the lease.

        Rounds that are older than useful_ticks prolong none, and are forgotten: there may be nobody who reads. Amortized O(1).
        """
        while self._rounds and self.ticks - self._rounds[0][1] > useful_ticks:
            self._rounds.popleft()
        self._last_position += 1
        self._acknowledged[leader_id] = self._last_position
        self._rounds.append((self._last_position, self.ticks))

    def has_lease(self, voters: JointConfig, duration_ticks: int) -> bool:
        """Whether a quorum has answered a heartbeat that was sent less than duration_ticks ago. O(rounds that ended).

        Counted from the sending and not from the answer, because a follower's promise begins when the heartbeat arrives.
        """
        rounds = self._rounds
        if self.lease_is_void or not rounds:
            return False
        confirmed = voters.committed_index(self._acknowledged)
        while len(rounds) > 1 and rounds[1][0] <= confirmed:
            rounds.popleft()
        position, tick = rounds[0]
        return position <= confirmed and self.ticks - tick < duration_ticks

    def receive_ack(self, node_id: int, context: bytes) -> None:
        """A heartbeat response; one that carries anything but a position given out here is ignored."""
        if len(context) != _POSITION.size:
            return
        (position,) = _POSITION.unpack(context)
        if position <= self._last_position:
            self._acknowledged[node_id] = max(position, self._acknowledged.get(node_id, 0))

    def advance(self, voters: JointConfig) -> list[tuple[int, Message]]:
        """Takes out the reads that a quorum has confirmed: (index, request) in order. O(confirmed)."""
        pending = self._pending
        if not pending:
            return []
        confirmed = voters.committed_index(self._acknowledged)
        done = []
        while pending and pending[0][0] <= confirmed:
            _, index, request = pending.popleft()
            done.append((index, request))
        return done

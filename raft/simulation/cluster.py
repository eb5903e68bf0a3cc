"""A cluster on a virtual clock, in one thread: the events of a run, in the order of their times.

    heap   (time, number, what to do)      a tick of a node, an arrival, the end of a write, a step of the plan

One event is handled at a time, and what follows from it is put into the heap with a later time. A node's driver is one
of: idle; waiting to take a Ready; writing one (`take` was done, `finish` is in the heap). What a crash finds in the heap
for the node is of an older start, and is passed over.

Everything random comes from the plan and from generators that are named after its seed, so a seed repeats its run.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable
from typing import Any

from raft.errors import ProposalDroppedError, StepPeerNotFoundError
from raft.kinds import SnapshotStatus
from raft.raftpb import MSG_SNAP, MSG_VOTE_RESP, ConfState, Message
from raft.rawnode import SNAPSHOT_FAILURE, SNAPSHOT_FINISH
from raft.simulation.invariants import Invariants
from raft.simulation.network import Network
from raft.simulation.peer import Chance, Peer
from raft.simulation.plan import TICK, Plan
from raft.simulation.threads import Threads
from raft.simulation.trace import Trace
from raft.state import STATE_LEADER

__all__ = ["Cluster"]


class Cluster:
    """Nodes, network and clock. `peers` by id; ids are 1, 2, …"""

    def __init__(self, plan: Plan, chance: Chance, trace: Trace | None = None) -> None:
        self.plan = plan
        self.chance = chance
        self.trace = trace
        self.rng = chance(f"cluster/{plan.seed}")
        self.weather = plan.weather
        self.network = Network(chance(f"network/{plan.seed}"), plan.weather)
        self.ids = tuple(range(1, plan.nodes + plan.spares + 1))
        conf_state = ConfState(self.ids[: plan.nodes])
        self.peers = {node_id: self.new_peer(node_id, conf_state) for node_id in self.ids}
        self.invariants = self.new_invariants()
        self.history = self.invariants.history
        self.now = 0
        self.number = 0
        self.heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.events = 0
        self.sent = 0  # messages so far: the number of the last one
        self.periods = dict(zip(self.ids, plan.periods))
        self.paused = dict.fromkeys(self.ids, 0)  # until when
        self.slow_disk = dict.fromkeys(self.ids, 0)  # until when
        self.threads: dict[int, Threads] = {}  # of nodes with asynchronous storage writes
        self.waiting: set[int] = set()  # drivers that are about to take a Ready
        for node_id in self.ids:
            self.started(self.peers[node_id])

    def new_peer(self, node_id: int, conf_state: ConfState) -> Peer:
        """A node of this run."""
        return Peer(node_id, conf_state, self.chance, self.plan.seed, **self.plan.options)

    def new_invariants(self) -> Invariants:
        """What has to hold in this run."""
        return Invariants(self.peers)

    # The clock.

    def after(self, delay: int, handler: Callable[..., None], *arguments: Any) -> None:
        """Has handler(*arguments) called after `delay`."""
        self.number += 1
        heapq.heappush(self.heap, (self.now + delay, self.number, handler, arguments))

    def run_until(self, end: int) -> None:
        """Handles all events before `end`."""
        heap = self.heap
        while heap and heap[0][0] < end:
            self.now, _, handler, arguments = heapq.heappop(heap)
            self.events += 1
            if self.trace is not None:
                self.trace.begins(self.now, handler.__name__)
            handler(*arguments)
        self.now = end

    # Nodes that start, tick and crash.

    def takes_part(self, peer: Peer) -> bool:
        """Whether the node runs, and is allowed to."""
        return peer.up

    def may_tick(self, peer: Peer) -> bool:
        """Whether the node's clock moves it: without, it never campaigns."""
        return self.takes_part(peer)

    def start(self, peer: Peer) -> None:
        """Starts a node that is down."""
        if not peer.up:
            peer.start()
            self.started(peer)

    def started(self, peer: Peer) -> None:
        """A node has started: its clock begins to run."""
        if peer.config.get("async_storage_writes"):
            self.threads[peer.id] = Threads(peer)
        self.invariants.started(peer)
        if self.trace is not None:
            self.trace.started(self.now, peer)
        self.after(self.rng.randrange(1, TICK), self._tick, peer, peer.starts)

    def crash(self, peer: Peer) -> None:
        """Ends a node, in the middle of whatever it is doing, its write included."""
        threads = self.threads.get(peer.id)
        records = threads.records() if threads is not None else peer.records()
        peer.tear(records[: self.rng.randint(0, len(records))])
        peer.crash(self.rng)
        self.waiting.discard(peer.id)
        self.paused[peer.id] = 0
        if self.trace is not None:
            self.trace.crashed(self.now, peer)

    def _tick(self, peer: Peer, start: int) -> None:
        if peer.starts != start or not peer.up:
            return
        pause = self.paused[peer.id] - self.now
        if pause > 0:
            # After a pause a driver makes one tick, and not all that were missed.
            self.after(pause, self._tick, peer, start)
            return
        self.after(self.periods[peer.id], self._tick, peer, start)
        if self.may_tick(peer):
            peer.node.tick()
            self.wake(peer)

    # Messages.

    def _send(self, peer: Peer, messages: list[Message]) -> None:
        for message in messages:
            if message.to not in self.peers:
                continue
            if message.type == MSG_VOTE_RESP and not message.reject:
                self.invariants.voted(peer.id, message.term, message.to)
            if self.trace is not None:
                self.trace.sent(self.now, message)
            delays = self.network.delays(message.from_, message.to)
            # Nodes own what they are given, so a repeated message is another object.
            again = Message.decode(message.encode()) if len(delays) == 2 else None
            if not delays:
                self.sent += 1
                self.lose(message)
            else:
                self._leave(delays[0], message)
            if again is not None:
                if self.trace is not None:
                    self.trace.sent(self.now, again)
                self._leave(delays[1], again)

    def _leave(self, delay: int, message: Message) -> None:
        """A message gets its number, and is on its way if the plan doesn't drop it.

        A dropped one draws nothing by chance, so up to the next message the run is as it was.
        """
        self.sent += 1
        if self.sent not in self.plan.dropped:
            self.post(delay, message)
            return
        if self.trace is not None:
            self.trace.lost(self.now, message)
        self.report(message, SNAPSHOT_FAILURE)

    def post(self, delay: int, message: Message) -> None:
        """A message is on its way."""
        self.after(delay, self.arrive, message)

    def lose(self, message: Message) -> None:
        """Some drivers notice a loss, and some don't; that of a snapshot they have to."""
        if self.trace is not None:
            self.trace.lost(self.now, message)
        self.report(message, SNAPSHOT_FAILURE)
        sender = self.peers.get(message.from_)
        if sender is not None and sender.up and self.rng.random() < 0.3:
            sender.node.report_unreachable(message.to)

    def report(self, message: Message, status: SnapshotStatus) -> None:
        """Tells the sender how the transfer of a snapshot ended, as the contract demands."""
        if message.type == MSG_SNAP:
            sender = self.peers[message.from_]
            if sender.up:
                sender.node.report_snapshot(message.to, status)
                self.wake(sender)

    def arrive(self, message: Message) -> None:
        """A message reaches its node, if that runs."""
        peer = self.peers[message.to]
        pause = self.paused[peer.id] - self.now
        if pause > 0 and peer.up:
            self.after(pause, self.arrive, message)
            return
        if not self.takes_part(peer):
            self.lose(message)
            return
        self.report(message, SNAPSHOT_FINISH)
        if self.trace is not None:
            self.trace.received(self.now, message)
        try:
            peer.node.step(message)
        except (StepPeerNotFoundError, ProposalDroppedError):
            return
        self.wake(peer)

    # The drivers.

    def wake(self, peer: Peer) -> None:
        """After anything has happened to a node: checks it, and has its driver look for a Ready."""
        self.invariants.after_event(peer)
        if self.trace is not None:
            self.trace.looked_at(self.now, peer)
        if peer.ready is None and peer.id not in self.waiting and peer.node.has_ready():
            wait = self.weather.driver
            if wait:
                self.waiting.add(peer.id)
                self.after(self.rng.randrange(wait), self._take, peer, peer.starts)
            else:
                self._take(peer, peer.starts)

    def _take(self, peer: Peer, start: int) -> None:
        if peer.starts != start or not peer.up:
            return
        self.waiting.discard(peer.id)
        if not self.takes_part(peer):
            return
        self.invariants.before_take(peer)
        if peer.id in self.threads:
            self._take_for_threads(peer, self.threads[peer.id])
            return
        self._send(peer, peer.take())
        assert peer.ready is not None
        if self.trace is not None:
            self.trace.took(self.now, peer, peer.records(), peer.ready.must_sync)
        delay = self._disk_delay(peer)
        if not peer.ready.must_sync and peer.ready.snapshot is None:
            delay //= 10
        self.after(delay, self._write, peer, start)

    def _disk_delay(self, peer: Peer) -> int:
        low, high = self.weather.disk
        delay = low + int((high - low) * self.rng.random())
        if self.now < self.slow_disk[peer.id]:
            delay *= 10
        return delay

    def _write(self, peer: Peer, start: int) -> None:
        if peer.starts != start or not peer.up:
            return
        pause = self.paused[peer.id] - self.now
        if pause > 0:
            self.after(pause, self._write, peer, start)
            return
        peer.write()
        if self.weather.driver:
            self.after(self.rng.randrange(self.weather.driver), self._finish, peer, start)
        else:
            self._finish(peer, start)

    def _finish(self, peer: Peer, start: int) -> None:
        if peer.starts != start or not peer.up or not self.takes_part(peer):
            return
        self.invariants.before_finish(peer)
        messages = peer.finish()
        peer.read_states.clear()
        self._send(peer, messages)
        self.invariants.applied(peer)
        self.wake(peer)

    # The driver with asynchronous storage writes.

    def _take_for_threads(self, peer: Peer, threads: Threads) -> None:
        queued = len(threads.appends)
        messages, reads = threads.hand_out()
        if self.trace is not None:
            fresh = threads.appends[queued] if len(threads.appends) > queued else None
            records = threads.records_of(fresh) if fresh is not None else []
            self.trace.took(self.now, peer, records, fresh is not None and bool(fresh.responses))
        self.invariants.answers(peer.id, reads)
        self._send(peer, messages)
        self._start_threads(peer, threads)
        self.wake(peer)

    def _start_threads(self, peer: Peer, threads: Threads) -> None:
        if threads.appends and not threads.appending:
            threads.appending = True
            self.after(self._disk_delay(peer), self._append, peer, threads)
        if threads.applies and not threads.applying:
            threads.applying = True
            self.after(self._disk_delay(peer) // 4, self._apply, peer, threads)

    def _append(self, peer: Peer, threads: Threads) -> None:
        if not self._goes_on(peer, threads, self._append):
            return
        message = threads.appends[0]
        responses = threads.append()
        if message.vote:
            self.invariants.voted(peer.id, message.term, message.vote)
        threads.appending = False
        self._answer(peer, threads, responses)

    def _apply(self, peer: Peer, threads: Threads) -> None:
        if self._goes_on(peer, threads, self._apply):
            responses = threads.apply()
            threads.applying = False
            self._answer(peer, threads, responses)

    def _goes_on(self, peer: Peer, threads: Threads, handler: Callable[[Peer, Threads], None]) -> bool:
        if self.threads[peer.id] is not threads or not self.takes_part(peer):
            return False
        pause = self.paused[peer.id] - self.now
        if pause > 0:
            self.after(pause, handler, peer, threads)
        return pause <= 0

    def _answer(self, peer: Peer, threads: Threads, responses: list[Message]) -> None:
        """Delivers the responses of a thread, to the node itself and to others."""
        self.invariants.applied(peer)
        self._send(peer, [message for message in responses if message.to != peer.id])
        for message in responses:
            if message.to == peer.id:
                # Its own acknowledgement finds a node that was removed in the meantime.
                with contextlib.suppress(StepPeerNotFoundError):
                    peer.node.step(message)
                self.invariants.after_event(peer)
        self._start_threads(peer, threads)
        self.wake(peer)

    # What steps and tests ask for.

    def leaders(self) -> list[Peer]:
        """All nodes that lead, by term: only the last one may be followed by a majority."""
        leaders = [p for p in self.peers.values() if self.takes_part(p) and p.node.raft.state == STATE_LEADER]
        return sorted(leaders, key=lambda peer: peer.node.raft.term)

    def leader(self) -> Peer | None:
        """The running leader of the highest term."""
        return next(reversed(self.leaders()), None)

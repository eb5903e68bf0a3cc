"""A run: the steps of a plan carried out on a cluster, then the end of all faults, and the wait for agreement.

After the faults everything is up, connected and quick, and every clock is true. Then, within a bounded number of ticks,
there has to be a leader, and all members have to come to the same state, with a new entry in it (Liveness).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from raft.errors import ProposalDroppedError, RaftError
from raft.simulation.changes import choose_change
from raft.simulation.cluster import Cluster
from raft.simulation.invariants import Violation
from raft.simulation.peer import Chance, Peer
from raft.simulation.plan import ANY_LEADER, LEADER, TICK, Kind, Plan, Step, Weather
from raft.simulation.trace import Trace
from raft.state import STATE_LEADER

__all__ = ["CONVERGE_TICKS", "Simulation", "play"]

CONVERGE_TICKS = 300
"""How long the nodes may take to agree. Most need some twenty ticks, an election and a few messages."""

_FAIR = Weather((10, 20), 0, 0, 0, (5, 10), 0)


class Simulation(Cluster):
    """One run. `run` carries out the plan; `converge` ends the faults and demands agreement."""

    def __init__(self, plan: Plan, chance: Chance, trace: Trace | None = None) -> None:
        super().__init__(plan, chance, trace)
        self.counter = 0
        self.partitions = 0
        self.handlers: dict[Kind, Callable[[Peer, Step], None]] = {
            Kind.PROPOSE: self._propose,
            Kind.READ: self._read,
            Kind.CRASH: self._crash,
            Kind.PARTITION: self._partition,
            Kind.PAUSE: self._pause,
            Kind.SLOW_DISK: self._slow_disk,
            Kind.SNAPSHOT: self._snapshot,
            Kind.CHANGE: self._change,
            Kind.CAMPAIGN: self._campaign,
            Kind.TRANSFER: self._transfer,
            Kind.FORGET_LEADER: self._forget_leader,
        }

    def run(self) -> None:
        """All steps, each at its time."""
        for step in self.plan.steps:
            self.after(step.at, self.carry_out, step)
        self.run_until(self.plan.length)

    def carry_out(self, step: Step) -> None:
        """Does what a step says, on the node that it means."""
        if step.node >= 0:
            peer = self.peers[self.ids[step.node]]
        else:
            leaders = self.leaders()
            chosen = step.value if step.node == ANY_LEADER else -1
            peer = leaders[chosen % len(leaders)] if leaders else self.peers[self.ids[step.value % len(self.ids)]]
        if self.takes_part(peer):
            if self.trace is not None:
                self.trace.step(self.now, peer, step)
            self.handlers[step.kind](peer, step)

    # Steps.

    def _propose(self, peer: Peer, step: Step) -> None:
        datas = []
        for _ in range((1, 1, 3)[step.value % 3]):
            self.counter += 1
            datas.append(b"%d" % self.counter)
        try:
            peer.node.propose_batch(datas)
        except ProposalDroppedError:
            self.history.dropped.update(datas)
        self.wake(peer)

    def _read(self, peer: Peer, step: Step) -> None:
        self.counter += 1
        context = b"%d" % self.counter
        self.history.ask(context)
        peer.node.read_index(context)
        self.wake(peer)

    def _crash(self, peer: Peer, step: Step) -> None:
        """Half of the crashes come in the middle of a write, if any node is writing."""
        writing = [p for p in self.peers.values() if p.up and p.ready is not None and not p.written]
        if writing and step.value & 1:
            peer = writing[(step.value >> 1) % len(writing)]
        self.crash(peer)
        self.after(step.span, self.start, peer)

    def _partition(self, peer: Peer, step: Step) -> None:
        self.partitions += 1
        self.cut(self.network.partition(step.value, self.ids, peer.id))
        self.after(step.span, self._heal, self.partitions)

    def _heal(self, partition: int) -> None:
        if partition == self.partitions:
            self.cut(set())

    def cut(self, links: set[tuple[int, int]]) -> None:
        """From here on these links (from, to) are cut, and no others."""
        self.network.cut = links
        if self.trace is not None:
            self.trace.cut(self.now, links)

    def _pause(self, peer: Peer, step: Step) -> None:
        self.paused[peer.id] = self.now + step.span

    def _slow_disk(self, peer: Peer, step: Step) -> None:
        self.slow_disk[peer.id] = self.now + step.span

    def _snapshot(self, peer: Peer, step: Step) -> None:
        self.take_snapshot(peer, keep=(0, 0, 3)[step.value % 3])

    def take_snapshot(self, peer: Peer, keep: int = 0) -> None:
        """Has a node make a snapshot, if it can, and has applied anything since the last one."""
        if peer.may_take_snapshot() and peer.application.index > peer.storage.snapshot().metadata.index:
            peer.take_snapshot(keep)
            self.wake(peer)

    def _change(self, peer: Peer, step: Step) -> None:
        status = peer.node.status()
        change = choose_change(status.conf_state, self.ids, step.value, status.raft_state == STATE_LEADER)
        if change is None:
            return
        with contextlib.suppress(ProposalDroppedError):
            peer.node.propose_conf_change(change)
        self.wake(peer)

    def _campaign(self, peer: Peer, step: Step) -> None:
        peer.node.campaign()
        self.wake(peer)

    def _transfer(self, peer: Peer, step: Step) -> None:
        peer.node.transfer_leadership(self.ids[step.value % len(self.ids)])
        self.wake(peer)

    def _forget_leader(self, peer: Peer, step: Step) -> None:
        peer.node.forget_leader()
        self.wake(peer)

    # The end.

    def end_faults(self) -> None:
        """From here on everything is up, connected and quick, and every clock is true."""
        if self.trace is not None:
            self.trace.begins(self.now, "end_faults")
        self.partitions += 1
        self.cut(set())
        self.weather = self.network.weather = _FAIR
        self.periods = dict.fromkeys(self.ids, TICK)
        for peer in self.peers.values():
            self.paused[peer.id] = self.slow_disk[peer.id] = 0
            self.start(peer)

    def converge(self) -> int:
        """Ends the faults, and returns how many ticks it takes until all agree. Raises `Violation` (Liveness)."""
        self.end_faults()
        target = self.history.commit + 1
        for ticks in range(CONVERGE_TICKS):
            self.run_until(self.now + TICK)
            if self.trace is not None:
                self.trace.begins(self.now, "converge")
            leader = self.leader()
            if leader is not None and self._leads_to_agreement(leader, target):
                return ticks
        raise Violation(
            f"Liveness: {CONVERGE_TICKS} ticks after the last fault, with {target} to be committed, the nodes are at "
            f"{[peer.node.status() for peer in self.peers.values()]}"
        )

    def _leads_to_agreement(self, leader: Peer, target: int) -> bool:
        """True if all agree; else does what an operator, or the leader's driver, has to do next."""
        conf_state = leader.node.status().conf_state
        if leader.id not in conf_state.voters + conf_state.voters_outgoing:
            # It would lead, and take no proposals, for ever, so its driver stops it. It starts again, because it may
            # have been added again since, without knowing it.
            self.crash(leader)
            self.start(leader)
        elif self.agreed(leader, target) and not conf_state.auto_leave:
            return True
        elif leader.storage.snapshot().metadata.conf_state != conf_state:
            # A node that was added needs a snapshot of a configuration with it (raft/rawnode.py, rule 6).
            self.take_snapshot(leader)
        elif leader.application.index < target and leader.node.raft.log.last_index() < target:
            self._propose(leader, Step(self.now, Kind.PROPOSE, LEADER, 0, 0))
        return False

    def agreed(self, leader: Peer, target: int) -> bool:
        """Whether all members have applied the same; a node that was removed needn't learn of anything after that."""
        indexes = {self.peers[node_id].application.index for node_id in leader.node.raft.tracker.progress}
        return len(indexes) == 1 and indexes.pop() >= target


def play(simulation: Simulation) -> Simulation:
    """A run from beginning to end. An exception of a node is a violation, too: it saw what can't be."""
    try:
        simulation.run()
        simulation.converge()
    except RaftError as error:
        raise Violation(f"a node stopped: {type(error).__name__}: {error}") from error
    except Violation:
        raise
    except AssertionError as error:
        raise Violation(f"a node is confused: {error}") from error
    return simulation

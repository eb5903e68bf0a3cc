"""A cluster in one thread, for chapters 17 and 18: the server's parts on simulated disks, and a network that the test rules.

    Replica    one node: directory, log, engine, Raft, ReadyLoop, Waits; all of it as server/node.py puts it together,
               without its thread, its clock and its sockets
    Cluster    replicas 1 to n; `tick`, `settle`, `cut_off`, `kill`, `start`. A message is delivered when the test says so

Snapshots are made, sent and loaded at once, in the place where the server has a job; what a job reports still comes later.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import engines
from engines.kvstore import Operation, Pair
from engines.simdisk import Policy
from engines.simenv import SimEnv
from raft import SNAPSHOT_FAILURE, SNAPSHOT_FINISH, RawNode
from raft.kinds import StateType
from raft.raftpb import MSG_PROP, MSG_SNAP, ConfState, Message
from server.address_book import AddressBook, first_book
from server.config import NodeConfig, raft_config
from server.directory import open_directory
from server.forwards import from_wire, to_wire
from server.intake import Intake
from server.lease_reads import BothReads
from server.outstanding import Outstanding
from server.proposals import Proposal, Proposals
from server.reads import Waiter
from server.ready import Outgoing, ReadyLoop
from server.statemachine import StateMachine, encode_proposal
from server.storage import NodeStorage, RunJob
from server.waits import Asked, Waits
from tests.chapters.kit import History
from tests.conformance.engine_table import TINY

__all__ = ["Cluster", "Replica", "Sent"]

Sent = tuple[int, Message, bytes]  # to whom, the message, and a snapshot's file if it is one
STARTS_AT = 17  # the first origin: tells the proposals of a node's runs apart


class Replica:
    """One node. `sent` has what it has sent and nobody has delivered; `on_send` hears of each message."""

    def __init__(
        self,
        node_id: int,
        engine: str,
        disk: SimEnv,
        members: Sequence[int] = (1, 2, 3),
        on_send: Callable[[Message], None] = lambda message: None,
        new_waiter: Callable[[], Waiter] = Waiter,
        run_job: RunJob = lambda job: job(),
        **limits: Any,
    ) -> None:
        """Opens its directory on the disk, and recovers. run_job: does a job of the storage. limits: for NodeConfig."""
        self.id, self.engine, self.disk = node_id, engine, disk
        self.on_send = on_send
        self.sent: deque[Sent] = deque()
        self.calls: deque[Callable[[], object]] = deque()
        self.ticked = False
        peers = {member: ("127.0.0.1", 3380 + member) for member in members}
        config = NodeConfig(node_id, peers, "/disk/node", engine, env=disk, **limits)
        self.directory = open_directory(config)
        store = engines.open(f"{self.directory.path}/engine", engine, env=disk, sync=False, **TINY.get(engine, {}))
        self.members = AddressBook(first_book(peers))
        self.machine = StateMachine(store, self.directory.identity.cluster_id, own_keys=[self.members])
        self.storage = NodeStorage(self.directory, self.machine, run_job)
        conf_state = self.machine.conf_state or ConfState(voters=tuple(members))
        storage = self.storage.recovered(conf_state)
        self.raft = RawNode(raft_config(config, storage, self.machine.applied_index))
        origin = disk.rng.getrandbits(64)
        self.proposals, self.reads = Proposals(origin), BothReads(origin)
        self.outstanding = Outstanding(self.proposals)
        waiting = (self.outstanding, self.reads)
        self.loop = ReadyLoop(self.raft, self.storage, self.machine, waiting, self, config, conf_state)
        self.intake = Intake(node_id, self.raft, self.proposals, self.outstanding, self.loop.send, disk.now)
        asked = Asked(
            propose=self._propose,
            read=self.reads.add,
            lease=self.reads.add_lease,
            leader=lambda: self.raft.lead,
            require_member=lambda: None,
            applied_index=lambda: self.machine.applied_index,
            stopping=lambda: False,
            now=disk.now,
        )
        self.waits = Waits(self.proposals, asked, new_waiter)

    def _propose(self, proposal: Proposal) -> None:
        self.proposals.take([proposal])
        self.intake.propose([proposal])

    # ---- what its ReadyLoop finds around it ----------------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.on_send(message)
            if message.type == MSG_PROP:
                message = to_wire(message, self.disk.now())
            self.sent.append((message.to, message, b""))

    def send_snapshot(self, message: Message, outgoing: Outgoing) -> None:
        message, write = outgoing(message)
        with closing(self.disk.open(write(), "r")) as file:
            content = file.pread(file.size(), 0)
        self.on_send(message)
        self.sent.append((message.to, message, content))

    def later(self, call: Callable[[], object]) -> None:
        self.calls.append(call)

    def confirmed(self) -> None:
        pass

    # ---- what a test does with it --------------------------------------------------------------------------------

    def run(self) -> None:
        """Does all that is to be done, as the node's thread would before it waits again."""
        self.loop.run()
        while self.calls or self.intake.propose_again(self.loop.settled_term, self.ticked):
            self.ticked = False
            if self.calls:
                self.calls.popleft()()
            self.loop.run()
        self.ticked = False

    def tick(self) -> None:
        """A tick, a tenth of a second later."""
        self.disk.advance(0.1)
        self.raft.tick()
        self.reads.tick()
        self.ticked = True

    def campaign(self) -> None:
        """Stands for election, as soon as it is bound by no leader's lease: after a start it may have promised one
        something, for an election timeout."""
        while self.raft.raft.is_bound_by_lease():
            self.tick()
        self.raft.campaign()
        self.run()

    def step(self, *messages: Message) -> None:
        """Takes messages from peers, and does what follows from them."""
        self.intake.step(list(messages))
        self.run()

    def take(self, message: Message, snapshot: bytes = b"") -> None:
        """Takes one message that has come over the network, with a snapshot's file if it is one."""
        if message.type == MSG_SNAP:
            assert message.snapshot is not None
            self.storage.receive_snapshot(message.snapshot.metadata, iter([snapshot]))
        elif message.type == MSG_PROP:
            message = from_wire(message, self.disk.now(), 0.0)
        self.step(message)

    def propose(self, *operations: Operation) -> None:
        """Puts a proposal into Raft that nobody waits for."""
        self.raft.propose_batch([encode_proposal(STARTS_AT, 1, operations)])
        self.run()

    @property
    def leads(self) -> bool:
        return self.raft.role is StateType.LEADER

    def log(self) -> list[tuple[int, int]]:
        """(index, term) of all entries that Raft's storage has."""
        memory = self.storage.memory
        return [(index, memory.term(index)) for index in range(memory.first_index(), memory.last_index() + 1)]

    def content(self) -> list[Pair]:
        """The user's pairs."""
        return list(self.machine.scan())

    def close(self) -> None:
        self.storage.close()
        self.machine.close()


class Cluster:
    """Replicas 1 to n on these engines. `waits` of a replica need a `new_waiter` that can wait in one thread."""

    def __init__(
        self,
        names: Sequence[str],
        seed: int,
        history: History,
        new_waiter: Callable[[], Waiter] = Waiter,
        **limits: Any,
    ) -> None:
        self.history = history
        self.limits, self.new_waiter = limits, new_waiter
        self.names = dict(enumerate(names, 1))
        # a disk that is crashed goes on with the next seed, which must be no other node's: origins are drawn by it
        self.disks = {node_id: SimEnv(seed * 100_000 + node_id * 1_000) for node_id in self.names}
        self.nodes: dict[int, Replica] = {}
        self.links_cut: set[frozenset[int]] = set()
        self.snapshots_sent = 0
        for node_id in self.names:
            self.start(node_id)

    def start(self, node_id: int) -> Replica:
        """Starts a node on its disk."""
        self.history.note(f"node {node_id} starts on {self.names[node_id]}")
        self.nodes[node_id] = replica = Replica(
            node_id,
            self.names[node_id],
            self.disks[node_id],
            tuple(self.names),
            new_waiter=self.new_waiter,
            **self.limits,
        )
        replica.run()
        return replica

    def kill(self, node_id: int, policy: Policy = Policy.EVERYTHING, rng: random.Random | None = None) -> None:
        """Ends a node in the middle of its life: kill -9, or a power cut with another policy."""
        self.history.note(f"node {node_id} is killed; on its disk stays {policy.meaning}")
        replica = self.nodes.pop(node_id)
        self.disks[node_id] = replica.disk.crash(policy, rng or random.Random(0))

    def cut_off(self, *node_ids: int) -> None:
        """These nodes reach nobody but each other, and the others don't reach them."""
        self.history.note(f"nodes {node_ids} are cut off")
        rest = self.names.keys() - set(node_ids)
        self.links_cut = {frozenset((one, other)) for one in node_ids for other in rest}

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self.history.note("the network is whole")
        self.links_cut = set()

    def waiting(self) -> Iterator[Replica]:
        """The running nodes whose messages wait to be delivered."""
        return (replica for replica in self.nodes.values() if replica.sent)

    def deliver(self, replica: Replica, at: int = 0) -> None:
        """Takes one of the node's messages to where it goes, or loses it where there is no way."""
        to, message, snapshot = replica.sent[at]
        del replica.sent[at]
        target = self.nodes.get(to)
        if target is None or frozenset((replica.id, to)) in self.links_cut:
            if message.type == MSG_SNAP:
                replica.raft.report_snapshot(to, SNAPSHOT_FAILURE)
            else:
                replica.raft.report_unreachable(to)
            return
        self.snapshots_sent += message.type == MSG_SNAP
        target.take(replace(message), snapshot)
        if message.type == MSG_SNAP:
            replica.raft.report_snapshot(to, SNAPSHOT_FINISH)
        replica.run()

    def settle(self) -> None:
        """Delivers everything, and what follows from it, until nobody has anything to say."""
        for _ in range(10_000):
            replica = next(self.waiting(), None)
            if replica is None:
                return
            self.deliver(replica)
        raise AssertionError("10,000 messages were delivered, and the nodes still have more to say")

    def tick(self, count: int = 1) -> None:
        """Ticks every node, and settles."""
        for _ in range(count):
            for replica in list(self.nodes.values()):
                replica.tick()
                replica.run()
            self.settle()

    def elect(self, node_id: int) -> Replica:
        """Makes the node the leader of those that it reaches. It takes an election timeout, for as long as they have
        heard from another; if that one is within reach, it hands over."""
        replica = self.nodes[node_id]
        for _ in range(30):
            before = replica.raft.lead
            if before in self.nodes and before != node_id and frozenset((before, node_id)) not in self.links_cut:
                self.history.note(f"node {before} hands over to node {node_id}")
                self.nodes[before].raft.transfer_leadership(node_id)
                self.nodes[before].run()
            else:
                self.history.note(f"node {node_id} campaigns")
                replica.campaign()
            self.settle()
            if replica.leads:
                return replica
            self.tick()
        raise AssertionError(f"node {node_id} was elected in none of thirty elections")

    def contents(self) -> list[list[Pair]]:
        """Every pair of every running node's engine, ours among them."""
        return [list(replica.machine.store.scan()) for replica in self.nodes.values()]

    def close(self) -> None:
        for replica in self.nodes.values():
            replica.close()

"""Nodes that keep leases, without Raft, threads and clocks: a log in a list, and a test that says who leads and what time it is."""

from __future__ import annotations

from collections.abc import Callable

from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from server.v3.lease_keeper import LeaseKeeper
from server.v3.leases import Leases

ELECTION_S = 0.5

Operation = Callable[[Leases, "KeysOfNode", int, int], object]  # the table, the keys, the entry's index and term


class KeysOfNode:
    """The writes of an entry: a map, which tells the table what it deletes, as server/mvcc.py does."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.keys: dict[bytes, int] = {}
        self.deleted: list[tuple[bytes, ...]] = []

    def put(self, key: bytes, lease: int) -> None:
        self.leases.moved(key, self.keys.get(key, 0), lease)
        self.keys[key] = lease

    def delete(self, key: bytes) -> None:
        if key in self.keys:
            self.leases.moved(key, self.keys.pop(key), 0)


class Member:
    """One node: what it has applied of the log, and its keeper."""

    def __init__(self, cluster: Sim) -> None:
        self.cluster = cluster
        self.store = MemoryStore()
        self.leases = Leases()
        self.leases.read(self.store)
        self.writes = KeysOfNode(self.leases)
        self.applied = 0
        self.term = 0  # in which it believes that it leads
        self.decided: list[Operation] = []  # expiries that it wants to propose
        self.keeper = LeaseKeeper(self.leases, self._expire, ELECTION_S, lambda: cluster.now)

    def _expire(self, lease: int, index: int, term: int) -> None:
        self.decided.append(
            lambda leases, writes, at, entry_term: leases.expire(lease, index, term, entry_term, writes)
        )

    def apply(self) -> None:
        """Applies what is committed, in one batch."""
        batch = WriteBatch()
        for term, operation in self.cluster.log[self.applied :]:
            self.applied += 1
            self.leases.begin()
            operation(self.leases, self.writes, self.applied, term)
        self.leases.put(batch, [], None)
        self.store.write(batch)
        self.leases.written()

    def tick(self, now: float) -> None:
        self.keeper.tick(now, self.term)


class Sim:
    """Some nodes, a log that all of them apply, and the time."""

    def __init__(self, size: int = 3) -> None:
        self.log: list[tuple[int, Operation]] = []
        self.now = 100.0
        self.term = 0
        self.members = [Member(self) for _ in range(size)]
        self.leader = self.members[0]
        self.elect(self.leader)

    def elect(self, member: Member, notices: bool = True) -> None:
        """Another node leads, in a new term; the one before notices, or not yet."""
        if notices:
            self.leader.term = 0
            self.leader.tick(self.now)
        self.term += 1
        self.leader = member
        member.term = self.term
        member.apply()
        member.tick(self.now)

    def commit(self, operation: Operation) -> None:
        """An entry of the leader's, which all apply."""
        self.log.append((self.term, operation))
        for member in self.members:
            member.apply()

    def grant(self, lease: int, ttl: int) -> None:
        self.commit(lambda leases, writes, index, term: leases.grant(lease, ttl, index))

    def put(self, key: bytes, lease: int) -> None:
        self.commit(lambda leases, writes, index, term: writes.put(key, lease))

    def commit_decided(self, *members: Member) -> None:
        """What these nodes wanted to expire gets into the log, under whoever leads now."""
        for member in members or self.members:
            decided, member.decided = member.decided, []
            for operation in decided:
                self.commit(operation)

    def run(self, seconds: float, *keep_alive: int, step_s: float = 0.05) -> None:
        """Time passes for all nodes; these leases are kept alive all the time."""
        for _ in range(round(seconds / step_s)):
            self.now += step_s
            for lease in keep_alive:
                self.renew(lease)
            for member in self.members:
                member.tick(self.now)
            self.commit_decided(self.leader)

    def renew(self, lease: int) -> int | None:
        told: list[int | None] = []
        self.leader.keeper.renew(lease, told.append)
        return told[0] if told else -1  # -1: it waits

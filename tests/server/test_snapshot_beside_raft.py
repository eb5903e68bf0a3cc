"""Snapshot work beside Raft: however long a disk takes over it, heartbeats come, and nobody campaigns.

Time is counted, not measured. The nodes have no clock: the test ticks them all, and goes on to the next round only when the
leader's heartbeat of this one was heard, and answered. Each fsync of snapshot work (taking, receiving, loading, flushing an
engine before the log is cut) lasts until three election timeouts of rounds have gone by. So a node whose thread waits for
one of them stops the test: the rounds that it waits for don't come.
"""

import dataclasses
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from engines.env import RealEnv
from raft.raftpb import MSG_HEARTBEAT, MSG_HEARTBEAT_RESP
from server.intake import Intake
from tests.server.local_nodes import PATIENCE_S, LocalCluster, eventually

ELECTION_TICK = 10
SLOW_ROUNDS = 3 * ELECTION_TICK
ATTEMPTS = 20  # to be heard, before it is called a failure
ENGINES = ["memory", "lsm", "btree", "bitcask"]


class Rounds:
    """How many rounds there were, and who waits for some to go by."""

    def __init__(self) -> None:
        self.count = 0
        self.slow: Counter[str] = Counter()  # by site: syncs that lasted SLOW_ROUNDS
        self.stopped = False
        self._changed = threading.Condition()

    def wait(self, site: str) -> None:
        with self._changed:
            until = self.count + SLOW_ROUNDS
            self.slow[site] += 1
            self._changed.wait_for(lambda: self.count >= until or self.stopped, PATIENCE_S)

    def next(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_until(self, look, timeout_s: float) -> bool:
        """Looks whenever something was heard; False if nothing comes of it."""
        with self._changed:
            return self._changed.wait_for(look, timeout_s)

    def heard(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


class SlowFile:
    def __init__(self, file, env) -> None:
        self._file = file
        self._env = env

    def __getattr__(self, name):
        return getattr(self._file, name)

    def sync(self, site: str) -> None:
        self._env.wait(site)
        self._file.sync(site)


# What the node's thread waits for by itself, whatever snapshots do: its log, its identity, the mark with which an LSM
# engine's new log says that what follows isn't synced (engines/lsm/wal.py, rule 1), one for each log; and the name of a
# Bitcask's new segment, one for each segment, which the first write after a start makes.
FAST = ("server.wal.", "server.identity.", "lsm.wal.mark", "bitcask.create")


class SlowEnv(RealEnv):
    """A disk that takes its time over everything else."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__()
        self._rounds = rounds
        self.slow = False

    def wait(self, site: str) -> None:
        ours = threading.current_thread() is threading.main_thread()  # which opens a node, and makes the rounds
        if self.slow and not ours and not site.startswith(FAST):
            self._rounds.wait(site)

    def open(self, path, mode):
        return SlowFile(super().open(path, mode), self)

    def sync_dir(self, path, site) -> None:
        self.wait(site)
        super().sync_dir(path, site)


class Lockstep:
    """A cluster that is ticked by hand, a round after the other."""

    def __init__(self, cluster: LocalCluster, rounds: Rounds, heard: Counter) -> None:
        self.cluster = cluster
        self.rounds = rounds
        self.heard = heard
        self.leader = None

    def elect(self) -> None:
        def leads():
            for node in self.cluster.nodes.values():
                node.later(node._raft.tick)
            threading.Event().wait(0.001)
            status = [node.status() for node in self.cluster.nodes.values()]
            return {each["leader"] for each in status} - {0} if len({each["leader"] for each in status}) == 1 else None

        self.leader = self.cluster.nodes[eventually("they have a leader", leads).pop()]
        self.term = self.leader.status()["term"]

    def round(self) -> None:
        """One tick of each node; the leader's heartbeat is heard by each, and each answer by the leader."""
        before = self.heard.copy()
        leader = self.leader.id
        others = [node_id for node_id in self.cluster.nodes if node_id != leader]
        for node in list(self.cluster.nodes.values()):
            node.later(node._raft.tick)

        def all_heard() -> bool:
            followers = all(self.heard[node_id] > before[node_id] for node_id in others)
            return followers and self.heard[leader] >= before[leader] + len(others)

        for _ in range(ATTEMPTS):
            heard = self.rounds.wait_until(all_heard, PATIENCE_S / ATTEMPTS)
            if heard:
                break
            self.leader.later(self.leader._raft.tick)  # a stream began anew, and what was on the old one is lost
        assert heard, f"the heartbeat of round {self.rounds.count} was not heard, or not answered"
        self.rounds.next()

    def until(self, what: str, look) -> None:
        for _ in range(20_000):
            if look():
                return
            self.round()
        raise AssertionError(f"it did not happen in 20,000 rounds that {what}")

    def done(self, future: Future):
        self.until("it is done", future.done)
        return future.result()

    def require_no_election(self) -> None:
        for node in self.cluster.nodes.values():
            status = node.status()
            assert (status["term"], status["leader"]) == (self.term, self.leader.id)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_snapshot_work_holds_up_a_heartbeat(tmp_path, monkeypatch, engine):
    """Cuts, a snapshot for a follower that was away, and its installation, on a disk slower than an election timeout."""
    rounds, heard = Rounds(), Counter()
    step = Intake.step

    def counted(intake, messages):
        heard[intake._node_id] += sum(message.type in (MSG_HEARTBEAT, MSG_HEARTBEAT_RESP) for message in messages)
        rounds.heard()
        step(intake, messages)

    monkeypatch.setattr(Intake, "step", counted)
    env = SlowEnv(rounds)
    options = {
        "snapshot_entries": 20,
        "catch_up_entries": 5,
        "election_tick": ELECTION_TICK,
        "heartbeat_tick": 1,
        "env": env,
    }
    cluster = LocalCluster(tmp_path, [engine] * 3, **options)
    cluster.configs = {at: dataclasses.replace(config, tick_s=1e6) for at, config in cluster.configs.items()}
    with ThreadPoolExecutor(1) as writer, cluster:
        try:
            lockstep = Lockstep(cluster, rounds, heard)
            lockstep.elect()
            pairs = [(b"key%04d" % number, b"v" * 100) for number in range(2000)]
            lockstep.done(writer.submit(lockstep.leader.propose, pairs, 1e6))
            away = next(node_id for node_id in cluster.nodes if node_id != lockstep.leader.id)
            last = cluster.nodes[away].status()["applied_index"]
            cluster.stop(away)
            env.slow = True

            def write() -> None:
                for number in range(60):
                    lockstep.leader.propose([(b"more%d" % number, b"v")], 1e6)

            lockstep.done(writer.submit(write))
            lockstep.until("the log is cut", lambda: lockstep.leader._storage.memory.first_index() > last + 1)
            back = cluster.start(away)
            lockstep.done(writer.submit(lockstep.leader.propose, [(b"last", b"v")], 1e6))
            lockstep.until("it has caught up", lambda: back.machine.lookup(b"last") == b"v")
            lockstep.require_no_election()
            assert back.metrics()["snapshots_received_total"] >= 1
            assert rounds.count >= 4 * SLOW_ROUNDS
            sites = "\n".join(rounds.slow)
            for needed in (
                "server.snapshot.write",
                "server.snapshot.receive",
                "" if engine == "memory" else f"{engine}.",
            ):
                assert needed in sites
        finally:
            rounds.stop()

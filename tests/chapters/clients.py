"""Clients of a cluster in one thread of time: each is a thread, and only the one whose turn it is runs.

A client does what a person with curl does: it makes a request's head, which the server's own parser and routes answer. Where
the real one would wait, on a lock for some seconds, this one gives its turn back, and the stage goes on: it delivers a
message, ticks a node, cuts the network, kills a leader. Who is next is drawn from the seed, and time is the count of
turns; so a run repeats itself, and no test waits for anything.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from engines.kvstore import Operation
from engines.simdisk import Policy
from server.errors import NodeError
from server.reads import Waiter
from server.request import parse_head
from server.routes import Answer, find_call, perform
from server.statemachine import StateMachine
from tests.chapters.kit import History
from tests.chapters.linearizable import UNKNOWN, Done
from tests.chapters.replicas import Cluster, Replica

__all__ = ["Front", "Stage", "ask"]

TIMEOUT_S = 2.0  # a client's patience; the stage's clock goes TURN_S in each turn
TURN_S = 0.004
KEYS = (b"x", b"y")
STRAGGLERS = 20_000  # turns after the last fault, in which everybody has to come to an end


class Front:
    """What stands before one replica: the `Serving` and the `Node` that server/routes.py asks."""

    class etcd:
        """There are no users."""

        class auth:
            enabled = False

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    @property
    def node(self) -> Any:
        return self

    @property
    def machine(self) -> StateMachine:
        return self.replica.machine

    def propose(self, operations: Sequence[Operation]) -> int:
        return self.replica.waits.propose(operations, TIMEOUT_S)

    def propose_nowait(self, operations: Sequence[Operation]) -> None:
        self.replica.waits.propose_nowait(operations)

    def read_barrier(self, consistency: str = "linearizable") -> int:
        return self.replica.waits.read_barrier(consistency, TIMEOUT_S)

    def metrics(self) -> Mapping[str, int | float]:
        return {}


def ask(front: Any, method: str, target: str, body: bytes = b"") -> Answer:
    """Sends a request as curl would, and returns the answer; no socket is between the two.

    A function that isn't written yet is no failed store: what the server would answer with 500 is raised here.
    """
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    request = parse_head(head.encode())
    assert request is not None
    call = find_call(request)
    answer = perform(front, call, body)
    if answer.status == 500:
        call.route.run(front, call.key, call.options, body)
        raise AssertionError(f"{method} {target} was answered 500, and done again it raises nothing")
    return answer


class _GivenUp(BaseException):
    """The stage is being taken down."""


class _Client:
    """A thread that runs only in its turn."""

    def __init__(self, stage: Stage, number: int, operations: int) -> None:
        self.number = number
        self.ended = False
        self.failure: BaseException | None = None
        self._stage, self._operations = stage, operations
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._given_up = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def turn(self) -> None:
        """Lets it run until it gives its turn back. Raises what it has raised."""
        self._stage.now_running = self
        self._turn.release()
        self._back.acquire()
        if self.failure is not None:
            raise self.failure

    def pause(self) -> None:
        """Called by itself: gives the turn back, and returns in the next one."""
        self._back.release()
        self._turn.acquire()
        if self._given_up:
            raise _GivenUp

    def give_up(self) -> None:
        """Ends its thread, wherever it is."""
        self._given_up = True
        self._turn.release()
        self._thread.join()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            for number in range(0 if self._given_up else self._operations):
                self._stage.operate(self.number, number)
                self.pause()
        except _GivenUp:
            pass
        except BaseException as failure:
            self.failure = failure
        self.ended = True
        self._back.release()


class _TurnWaiter(Waiter):
    """Waits by giving the turn back."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.outcome: int | NodeError | None = None

    def resolve(self, outcome: int | NodeError) -> None:
        if self.outcome is None:
            self.outcome = outcome

    def wait(self, timeout_s: float) -> int | None:
        until = self.stage.now + timeout_s
        while self.outcome is None:
            if self.stage.now > until:
                self.given_up = True
                return None
            self.stage.now_running.pause()
        if isinstance(self.outcome, NodeError):
            raise self.outcome
        return self.outcome


class Stage:
    """A cluster, clients, and faults. `done` has what the clients have seen."""

    def __init__(
        self,
        names: Sequence[str],
        seed: int,
        history: History,
        clients: int = 4,
        operations: int = 8,
        faults: bool = True,
    ) -> None:
        self.rng = random.Random(f"stage {seed}")
        self.history, self.faults = history, faults
        self.now = 0.0
        self.done: list[Done] = []
        self.now_running: Any = None
        self.cluster = Cluster(names, seed, history, lambda: _TurnWaiter(self), snapshot_entries=20, catch_up_entries=5)
        self.cluster.elect(1 + self.rng.randrange(len(names)))
        self.clients = [_Client(self, number, operations) for number in range(1, clients + 1)]

    # ---- what a client does --------------------------------------------------------------------------------------

    def operate(self, client: int, number: int) -> None:
        """One request to any node that runs, and what came of it."""
        rng = self.rng
        if not self.cluster.nodes:
            return
        node_id = rng.choice(sorted(self.cluster.nodes))
        front = Front(self.cluster.nodes[node_id])
        key = rng.choice(KEYS)
        called = self.now
        if rng.random() < 0.5:
            answer = ask(front, "GET", f"/{key.decode()}")
            told = f"GET {key!r}"
            if answer.status in (200, 404):
                value = bytes(answer.body) if answer.status == 200 else None  # type: ignore[arg-type]
                self.done.append(Done(client, "get", key, value, called, self.now))
                told += f" → {value!r}"
        else:
            written = None if rng.random() < 0.2 else b"%d.%d" % (client, number)
            method = "PUT" if written is not None else "DELETE"
            answer = ask(front, method, f"/{key.decode()}", written or b"")
            told = f"{method} {key!r} {written!r}"
            if answer.status in (204, 504):
                answered = self.now if answer.status == 204 else UNKNOWN
                self.done.append(Done(client, "put", key, written, called, answered))
        self.history.do(f"client {client} at node {node_id}: {told}  {called:.2f} … {self.now:.2f}  {answer.status}")
        assert answer.status in (200, 204, 404, 503, 504), f"{told} was answered {answer.status}"

    # ---- what happens -----------------------------------------------------------------------------------------------

    def run(self, turns: int = 1_500) -> None:
        """Plays it, then mends everything, and lets everybody come to an end."""
        try:
            for _ in range(turns):
                self._turn(self.faults)
            self.cluster.heal()
            for node_id in self.cluster.names.keys() - self.cluster.nodes.keys():
                self.cluster.start(node_id)
            for _ in range(STRAGGLERS):
                if not self._waiting():
                    return
                self._turn(False)
            raise AssertionError("the clients have not come to an end, and nothing has been broken for a long time")
        finally:
            for client in self.clients:
                client.give_up()

    def _waiting(self) -> list[_Client]:
        return [client for client in self.clients if not client.ended]

    def _turn(self, faults: bool) -> None:
        rng, cluster = self.rng, self.cluster
        self.now += TURN_S
        choice = rng.random()
        senders = sorted(cluster.waiting(), key=lambda replica: replica.id)
        if choice < 0.6 and senders:
            sender = rng.choice(senders)
            cluster.deliver(sender, rng.randrange(min(3, len(sender.sent))))
        elif choice < 0.7 and cluster.nodes:
            replica = cluster.nodes[rng.choice(sorted(cluster.nodes))]
            replica.tick()
            replica.run()
        elif choice < 0.99 or not faults:
            if waiting := self._waiting():
                rng.choice(waiting).turn()
            for replica in list(cluster.nodes.values()):
                replica.run()
        else:
            self._fault()

    def _fault(self) -> None:
        """Cuts the leader off, or one at random; heals; kills the leader, or another one; starts one that is down."""
        rng, cluster = self.rng, self.cluster
        down = sorted(cluster.names.keys() - cluster.nodes.keys())
        victims = sorted(cluster.nodes)
        leaders = [node_id for node_id in victims if cluster.nodes[node_id].leads]
        victim = rng.choice(leaders or victims) if rng.random() < 0.6 else rng.choice(victims)
        choice = rng.random()
        if down and choice < 0.5:
            cluster.start(rng.choice(down))
        elif cluster.links_cut and choice < 0.6:
            cluster.heal()
        elif choice < 0.8:
            cluster.cut_off(victim)
        elif len(victims) > 1:
            cluster.kill(victim, rng.choice(list(Policy)), rng)

"""Three nodes in one process, on loopback and in a temporary directory, for tests of the server."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from server import cluster as processes
from server.addresses import family
from server.config import NodeConfig
from server.errors import NodeError, NoLeader, OutcomeUnknown, Overloaded
from server.mvcc_rows import USER, plain_value
from server.node import Node

# Ports of tests lie below 32,768, from where on the system gives them to outgoing connections: which process takes which,
# for itself, and for node 1 of `metcd cluster`, whose nodes 2 and 3 have theirs 10,000 and 20,000 higher
PROCESSES_MAX = 24
HELD_PORT = 13_000
FREE_PORT, FREE_PORTS = 14_000, 250
CLUSTER_PORT, CLUSTER_PORTS = 10_000, 111
PATIENCE_S = 30.0  # how long a test waits for what should happen within moments, before it says that it doesn't


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, and that no other process which asks here is given meanwhile.

    One that this process was given before comes again when all others were.
    """
    ports = []
    while len(ports) < count:
        port = _next(_free_ports)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def cluster_port() -> int:
    """A port for node 1 of `metcd cluster`, so that all ports of three nodes are free, and so is the one below it."""

    def look() -> int:
        port = _next(_cluster_ports)
        try:
            processes.LocalCluster(["memory"] * 3, "unused", port).require_free_ports()
        except processes.ClusterError:
            return 0
        return port

    return int(eventually("six ports are free", look))


@functools.cache
def _own_number() -> int:
    """This process's number, below PROCESSES_MAX, which no other process of this machine has while this one lives: it
    holds a port for it, of which there is one for each."""
    for number in range(PROCESSES_MAX):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", HELD_PORT + number))
        except OSError:
            held.close()
        else:
            _held.append(held)
            return number
    raise RuntimeError(f"{PROCESSES_MAX} processes of tests have all ports: end some that are left of earlier runs")


_held: list[socket.socket] = []


def _next(ports: Iterator[int]) -> int:
    """The next one, for any thread: a generator that is asked by two at once raises ValueError."""
    with _lock:
        return next(ports)


_lock = threading.Lock()


def _own(first: int, size: int, step: int) -> Iterator[int]:
    """This process's ports of the `size` from `first` on that there are for each, for ever."""
    begin = first + _own_number() * size
    while True:
        yield from range(begin, begin + size, step)


_free_ports = _own(FREE_PORT, FREE_PORTS, 1)
_cluster_ports = _own(CLUSTER_PORT + 1, CLUSTER_PORTS, 3)


def loopbacks() -> list[str]:
    """The loopback addresses that this machine has: IPv4's, and IPv6's where it isn't switched off."""
    found = []
    for host in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.socket(family(host)) as probe:
            probe.bind((host, 0))
            found.append(host)
    return found


def eventually(what: str, look: Callable[[], Any]) -> Any:
    """What `look` returns, as soon as that is true; fails after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        pause.wait(0.005)
    raise AssertionError(f"within {PATIENCE_S} s it did not happen that {what}")


def insist(call: Callable[[], Any]) -> Any:
    """What a call to a node returns, which is made again for as long as no leader is there to do it, or nobody knows whether
    it was done: on a busy machine one may lose its office at any time."""

    def attempt() -> list[Any]:
        try:
            return [call()]
        except (NoLeader, Overloaded, OutcomeUnknown):
            return []

    return eventually("a node does what it is asked for", attempt)[0]


def cuts_over(node: Node) -> None:
    """Returns when the log is cut, if the last write has caused that: it is a job, and a node that stops gives it up."""
    node.read_barrier()  # a write is answered before the cut that it causes begins; this, after that
    eventually("the log is cut", lambda: not node._storage._cutting)


class LocalCluster:
    """Nodes 1 to n; each can be stopped and started again on its files."""

    def __init__(
        self, directory: Any, engines: Iterable[str] = ("memory",) * 3, host: str = "127.0.0.1", **options: Any
    ) -> None:
        names = list(engines)
        ports = free_ports(len(names))
        peers = {at: (host, port) for at, port in enumerate(ports, 1)}
        self.configs = {
            at: NodeConfig(at, peers, str(directory / f"node{at}"), engine, tick_s=0.02, **options)
            for at, engine in enumerate(names, 1)
        }
        self.nodes: dict[int, Node] = {}

    def __enter__(self) -> LocalCluster:
        for node_id in self.configs:
            self.start(node_id)
        return self

    def __exit__(self, *_: object) -> None:
        for node_id in list(self.nodes):
            self.stop(node_id)

    def start(self, node_id: int, **changes: Any) -> Node:
        node = Node(dataclasses.replace(self.configs[node_id], **changes))
        node.start()
        self.nodes[node_id] = node
        return node

    def stop(self, node_id: int) -> None:
        self.nodes.pop(node_id).stop()

    def leader(self) -> Node:
        """The node that the running nodes agree on."""

        def agreed() -> Node | None:
            leaders = {node.status()["leader"] for node in self.nodes.values()}
            return self.nodes.get(leaders.pop()) if len(leaders) == 1 else None

        return eventually("the nodes agree on a leader", agreed)

    def follower(self) -> Node:
        """A running node that doesn't lead."""
        leader = self.leader()
        return next(node for node in self.nodes.values() if node is not leader)

    def put(self, node: Node, key: bytes, value: bytes) -> int:
        """A PUT that is sent again for as long as the node says that nothing was done."""

        def attempt() -> int:
            try:
                return node.propose([(key, value)])
            except NodeError:
                return 0

        return eventually(f"{key!r} is written", attempt)

    def read(self, node: Node, key: bytes) -> bytes | None:
        """A linearizable GET."""

        def confirmed() -> bool:
            try:
                return node.read_barrier() >= 0
            except NodeError:
                return False

        eventually("a read is confirmed", confirmed)
        return node.machine.lookup(key)

    def converged(self) -> list[tuple[bytes, bytes]]:
        """Every pair of every running node's engine, ours included, once all have applied the same index."""

        def same() -> bool:
            status = [node.status() for node in self.nodes.values()]
            return len({s["applied_index"] for s in status}) == 1 == len({s["commit_index"] for s in status})

        eventually("all nodes have applied the same", same)
        contents = [list(node.machine.store.scan()) for node in self.nodes.values()]
        assert all(content == contents[0] for content in contents)
        return contents[0]

    def values(self) -> dict[bytes, bytes]:
        """What the users' keys have in every running node, once all have applied the same index."""
        rows = [(key[1:], plain_value(row)) for key, row in self.converged() if key.startswith(USER)]
        return {key: value for key, value in rows if value is not None}

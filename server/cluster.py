"""A cluster on one machine: each node is a process of its own, so that `kill -9` is a real one.

    node 1      client port  3379      peer port  3380      as etcd has 2379 and 2380, and raftexample's lesson 3379
    node 2                  13379                13380
    node 3                  23379                23380

Every node is the command `metcd serve …`, which is printed with it: to bring a killed node back, one types that line. The
nodes live as long as their standard input is open, and this process holds the other end: whatever happens to it, a
`kill -9` too, the system closes it, and the nodes stop by themselves. (A line typed by hand has no such string.)

Follows goreman's Procfile in etcd and raftexample.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO

from engines import ENGINES
from server.client import Client

__all__ = ["ClusterError", "LocalCluster", "LocalNode", "default_engines"]

NODES_MAX = 6  # node 7's ports would be above 65,535
PORT_MAX = 65_535
PORT_STEP = 10_000
FIRST_PORT = 3379
HEALTHY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
TURN_S = 0.05  # between two looks at processes that are starting


class ClusterError(Exception):
    """The cluster can't be started; the sentence says why."""


def default_engines() -> list[str]:
    """The engines that are built, those with files first: what `metcd cluster` gives to its nodes in turn."""
    return [name for name in ("lsm", "btree", "bitcask") if name in ENGINES] or ["memory"]


@dataclass(frozen=True)
class LocalNode:
    """One node of a cluster on this machine."""

    id: int
    engine: str
    data_dir: str
    client_port: int
    peer_port: int

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.client_port}"


class LocalCluster:
    """Nodes 1 to n as processes. A context manager: leaving it stops them all."""

    def __init__(self, engines: list[str], data_dir: str, first_port: int = FIRST_PORT) -> None:
        """`engines`: one for each node. The ports of node 1 are `first_port` and the next; each further node's lie
        PORT_STEP above. Raises ClusterError if there are more than NODES_MAX, or no such ports."""
        if not 1 <= len(engines) <= NODES_MAX:
            raise ClusterError(f"a cluster on one machine has 1 to {NODES_MAX} nodes, not {len(engines)}")
        if (last_port := first_port + (len(engines) - 1) * PORT_STEP + 1) > PORT_MAX:
            raise ClusterError(f"node {len(engines)}'s peer port would be {last_port}: begin with a lower --port")
        self.nodes = [
            LocalNode(at + 1, engine, f"{data_dir}/node{at + 1}", port := first_port + at * PORT_STEP, port + 1)
            for at, engine in enumerate(engines)
        ]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def command(self, node: LocalNode) -> list[str]:
        """The line that starts a node, as a list of words."""
        peers = ",".join(f"http://127.0.0.1:{each.peer_port}" for each in self.nodes)
        words = ["serve", "--id", str(node.id), "--cluster", peers, "--port", str(node.client_port)]
        return [sys.executable, "-m", "server", *words, "--engine", node.engine, "--data", node.data_dir]

    def command_line(self, node: LocalNode) -> str:
        """The same, to be typed into a terminal."""
        return shlex.join(self.command(node))

    def start(self) -> None:
        """Starts all nodes. Raises ClusterError if a port is taken."""
        self.require_free_ports()
        for node in self.nodes:
            self.start_node(node)

    def require_free_ports(self) -> None:
        """Raises ClusterError, with a sentence that names it, if a port is taken."""
        for node in self.nodes:
            for port in (node.client_port, node.peer_port):
                _require_free(port)

    def start_node(self, node: LocalNode) -> subprocess.Popen[bytes]:
        """Starts one node; what it prints comes out here, behind its number."""
        process = subprocess.Popen(
            [*self.command(node), "--until-stdin-closes"], stdin=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(node.id, process.stdout), daemon=True).start()
        self.processes[node.id] = process
        return process

    def wait_until_healthy(self, timeout_s: float = HEALTHY_TIMEOUT_S, given_up: threading.Event | None = None) -> None:
        """Returns when every node knows a leader, or `given_up` is set.

        Raises ClusterError if a node ends, or isn't healthy in time.
        """
        deadline = time.monotonic() + timeout_s
        pause = given_up or threading.Event()
        for node in self.nodes:
            with Client([node.url], timeout_s=1.0) as client:
                while not _healthy(client):
                    if (status := self.processes[node.id].poll()) is not None:
                        raise ClusterError(f"node {node.id} has ended with status {status}; it says why above")
                    if time.monotonic() > deadline:
                        raise ClusterError(f"node {node.id} was not healthy within {timeout_s:g} s")
                    if pause.wait(TURN_S):
                        return

    def dead(self) -> list[LocalNode]:
        """The nodes whose processes have ended since the last call, whoever ended them."""
        ended = [
            node for node in self.nodes if node.id in self.processes and self.processes[node.id].poll() is not None
        ]
        for node in ended:
            _close(self.processes.pop(node.id))
        return ended

    def stop(self) -> None:
        """Asks all nodes to stop, and ends those that don't."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process)
        self.processes.clear()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _healthy(client: Client) -> bool:
    try:
        return client.health()
    except Exception:
        return False


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ClusterError(f"port {port} can't be had ({error.strerror}): is another cluster running?") from None


def _pass_on(node_id: int, output: IO[bytes]) -> None:
    with output:
        for line in output:
            print(f"[node {node_id}] {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()

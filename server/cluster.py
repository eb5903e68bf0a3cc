"""A cluster on one machine: each node is a process of its own, so that `kill -9` is a real one.

    node 1      client port  3379      peer port  3380      as etcd has 2379 and 2380, and raftexample's lesson 3379
    node 2                  13379                13380
    node 3                  23379                23380

Every node is the command `metcd serve …`, and its paths are absolute: to bring a killed node back, one types that line,
from any directory. The nodes live as long as their standard input is open, and this process holds the other end: whatever
happens to it, a `kill -9` too, the system closes it, and the nodes stop by themselves. A node that was brought back by
hand has no such string: it goes on when the others stop, and is named then.

The nodes may run somebody's own packages (`packages_and_engines`): those of a directory that has engines/, raft/ and server/, as a
course directory of the tutorial does. They are first on the nodes' path, and the engines take their plain form. This process
itself runs the installed ones, so that it can say what went wrong.

Follows goreman's Procfile in etcd and raftexample.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from engines import ENGINES
from server.client import Client
from server.logs import pass_on
from server.secret import draw_secret

__all__ = [
    "ClusterError",
    "LocalCluster",
    "LocalNode",
    "default_engines",
    "listener",
    "metcd_command",
    "packages_and_engines",
]

PACKAGES = ("engines", "raft", "server")
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


def packages_and_engines(told: str) -> tuple[str | None, list[str]]:
    """What `--engines` says: "lsm,btree" as (None, ["lsm", "btree"]), "DIR:lsm,btree" with the directory's absolute path.

    A directory is what stands before the first colon, if it is one. Raises ClusterError if it lacks a package.
    """
    directory, colon, names = told.partition(":")
    if not colon or not os.path.isdir(directory):
        return None, told.split(",")
    for package in PACKAGES:
        if not os.path.isfile(os.path.join(directory, package, "__init__.py")):
            raise ClusterError(
                f"{directory} has no package {package}: DIR of --engines DIR:{names} is a directory with {', '.join(PACKAGES)}"
            )
    return os.path.abspath(directory), names.split(",")


@dataclass(frozen=True)
class LocalNode:
    """One node of a cluster on this machine."""

    id: int
    engine: str
    data_dir: str
    client_port: int
    options: tuple[str, ...] = ()  # of the engine, NAME=VALUE

    @property
    def peer_port(self) -> int:
        """Where the other nodes reach it."""
        return self.client_port + 1

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.client_port}"


class Faults(Protocol):
    """What a cluster asks of its lab (server/lab.py): where it is called, and the line that a node begins with."""

    url: str

    def faults_of(self, node: LocalNode) -> bytes: ...


class LocalCluster:
    """Nodes 1 to n as processes. A context manager: leaving it stops them all."""

    def __init__(
        self,
        engines: list[str],
        data_dir: str,
        first_port: int = FIRST_PORT,
        options: list[list[str]] | None = None,
        packages: str | None = None,
        log_format: str = "text",
        more: Sequence[str] = (),
    ) -> None:
        """`engines`, `options`: one for each node. The ports of node 1 are `first_port` and the next; each further node's lie
        PORT_STEP above. packages: a directory whose packages the nodes run, in plain form; None for the installed ones.
        more: further words for each node's `serve`. Raises ClusterError if there are more than NODES_MAX, or no such ports."""
        if not 1 <= len(engines) <= NODES_MAX:
            raise ClusterError(f"a cluster on one machine has 1 to {NODES_MAX} nodes, not {len(engines)}")
        if (last_port := first_port + (len(engines) - 1) * PORT_STEP + 1) > PORT_MAX:
            raise ClusterError(f"node {len(engines)}'s peer port would be {last_port}: begin with a lower --port")
        data_dir = os.path.abspath(data_dir)
        self.nodes = [
            LocalNode(at + 1, _absolute(engine), f"{data_dir}/node{at + 1}", first_port + at * PORT_STEP, tuple(told))
            for at, (engine, told) in enumerate(zip(engines, options or [[]] * len(engines)))
        ]
        self.packages = packages
        self.log_format = log_format
        self.more = more
        self.say: Callable[[str], None] = pass_on  # takes the nodes' lines
        self.lab: Faults | None = None
        self.secret_file = f"{data_dir}/peer-secret"
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()  # held where a process comes or goes

    def command(self, node: LocalNode) -> list[str]:
        """The line that starts a node, as a list of words."""
        peers = ",".join(f"http://127.0.0.1:{each.peer_port}" for each in self.nodes)
        words = ["serve", "--id", str(node.id), "--cluster", peers, "--port", str(node.client_port)]
        told = [word for option in node.options for word in ("--option", option)]
        words += ["--peer-secret-file", self.secret_file]
        words += ["--log-format", self.log_format] if self.log_format != "text" else []
        words += [*self._page_with(node), *self.more]
        own = [] if self.packages is None else ["env", f"PYTHONPATH={self.packages}", "METCD_PLAIN=1"]
        return [*own, *metcd_command(), *words, "--engine", node.engine, *told, "--data", node.data_dir]

    def _page_with(self, node: LocalNode) -> list[str]:
        """Which other nodes its page shows. Packages of before there was a page don't know the option."""
        others = [each.url for each in self.nodes if each is not node]
        knows = self.packages is None or os.path.isdir(os.path.join(self.packages, "server", "page"))
        return ["--page-with", ",".join(others)] if others and knows else []

    def command_line(self, node: LocalNode) -> str:
        """The same, to be typed into a terminal."""
        return shlex.join(self.command(node))

    def start(self) -> None:
        """Starts all nodes; the first time, it draws the secret that they share. Raises ClusterError if a port is taken."""
        self.require_free_ports()
        os.makedirs(os.path.dirname(self.secret_file), exist_ok=True)
        draw_secret(self.secret_file)
        for node in self.nodes:
            self.start_node(node)

    def require_free_ports(self, *nodes: LocalNode) -> None:
        """Raises ClusterError, with a sentence that names it, if a port of these, by default of all, is taken."""
        for node in nodes or self.nodes:
            for port in (node.client_port, node.peer_port):
                _require_free(port)

    def start_node(self, node: LocalNode) -> subprocess.Popen[bytes]:
        """Starts one node; what it prints comes out here, after its number."""
        words = ["--until-stdin-closes"] + ([] if self.lab is None else ["--lab", self.lab.url])
        with self._guard:
            process = subprocess.Popen(
                [*self.command(node), *words], stdin=subprocess.PIPE, stderr=subprocess.STDOUT,
                stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            self.processes[node.id] = process
        assert process.stdin is not None and process.stdout is not None
        threading.Thread(target=self._pass_on, args=(node.id, process.stdout), daemon=True).start()
        if self.lab is not None:
            with contextlib.suppress(OSError):  # it has ended already
                os.write(process.stdin.fileno(), self.lab.faults_of(node))
        return process

    def kill_node(self, node: LocalNode) -> None:
        """Ends a node's process, if there is one, as the loss of power would; `dead` doesn't tell of it."""
        with self._guard:
            process = self.processes.pop(node.id, None)
            if process is not None:
                process.kill()
                process.wait()
                _close(process)

    def _pass_on(self, node_id: int, output: IO[bytes]) -> None:
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                self.say(text if self.log_format == "json" else f"[node {node_id}] {text}")

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
        """The nodes whose processes have ended since the last call, however they ended."""
        with self._guard:
            ended = [
                node for node in self.nodes if node.id in self.processes and self.processes[node.id].poll() is not None
            ]
            for node in ended:
                _close(self.processes.pop(node.id))
        return ended

    def brought_back(self) -> list[tuple[LocalNode, str]]:
        """The nodes that ended and were started again by hand, and their processes in words."""
        gone = [node for node in self.nodes if node.id not in self.processes]
        return [(node, process) for node in gone if (process := listener(node.client_port)) is not None]

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
            holder = listener(port) or "another process"
            raise ClusterError(
                f"port {port} can't be had ({error.strerror}): {holder} has it; end that first, or choose another --port"
            ) from None


def metcd_command() -> list[str]:
    """The words that run `metcd`, from any directory: a file of the current one is never taken for a module of ours."""
    script = os.path.join(os.path.dirname(sys.executable), "metcd")
    return [script] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", "server"]


def _absolute(engine: str) -> str:
    """An engine's name; the path in front of "path/to/file.py:Class" is made absolute."""
    path, colon, class_name = engine.rpartition(":")
    return f"{os.path.abspath(path)}:{class_name}" if colon and path.endswith(".py") else engine


def listener(port: int) -> str | None:
    """The process that listens on a TCP port of this machine, in words; None if it can't be found out.

    /proc/net/tcp has the sockets ("0: 0100007F:0D33 00000000:0000 0A …", 0A is LISTEN, the tenth field is the inode),
    and /proc/<pid>/fd those of a process, as far as we may look.
    """
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as lines:
            for fields in map(str.split, lines):
                if fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
                    sockets.add(f"socket:[{fields[9]}]")
    for link in glob.iglob("/proc/[0-9]*/fd/*") if sockets else ():
        with contextlib.suppress(OSError):
            if os.readlink(link) in sockets:
                process = link.split("/")[2]
                with open(f"/proc/{process}/cmdline") as file:
                    words = file.read().rstrip("\0").split("\0")
                return f"process {process} ({shlex.join(words).strip()[:160]})"
    return None


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()

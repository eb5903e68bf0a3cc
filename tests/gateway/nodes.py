"""One or three nodes with an empty store, for one transcript: ours in this process, or a real etcd's.

Ours are what `metcd serve --cors '*' --host-whitelist '*'` starts, with etcd's defaults for strangers' pages, and with ticks so
short that an election takes a tenth of a second. Their files lie in memory where there is a /dev/shm.

A real etcd is for judging the runner itself: `python -m tests.gateway --etcd PATH`, with upstream's 3.5.1, passes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from server.config import NodeConfig
from server.http import FrontEnd
from server.node import Node
from server.strangers import Strangers
from server.v3.rpc import AlarmType
from server.verbs.words import quota
from tests.server.local_nodes import free_ports

__all__ = ["Etcd", "Nodes", "Ours", "System"]

TICK_S = 0.01
STARTING_S = 30.0


class Nodes(Protocol):
    """The nodes of one transcript; a context manager, which ends them."""

    ports: list[int]  # for clients
    peer_ports: list[int]

    def leader(self) -> int:
        """The index of the node that leads."""

    def kill(self, which: list[int], left: int) -> None:
        """Ends these nodes, and returns when node `left` has noticed that nobody leads."""

    def pass_time(self, seconds: float) -> None:
        """So many seconds pass for leases, if that can be done in less."""


System = Callable[[int, list[str]], contextlib.AbstractContextManager[Nodes]]  # how many nodes, further flags


def scratch() -> str | None:
    """Where files cost nothing: a directory in memory, if there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def eventually(what: str, look: Callable[[], Any]) -> Any:
    """What `look` returns as soon as it is true; TimeoutError if it isn't within STARTING_S."""
    deadline = time.monotonic() + STARTING_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        if found := look():
            return found
        pause.wait(0.005)
    raise TimeoutError(f"within {STARTING_S} s it did not happen that {what}")


class Ours:
    """Nodes of this server, in this process."""

    def __init__(self, count: int, flags: list[str], engines: list[str], tick_s: float = TICK_S) -> None:
        """engines: of the nodes in turn. flags: etcd's, as a transcript has them."""
        self._directory = tempfile.mkdtemp(prefix="metcd-gateway-", dir=scratch())
        self.ports, self.peer_ports = free_ports(count), free_ports(count)
        peers = {at: ("127.0.0.1", port) for at, port in enumerate(self.peer_ports, 1)}
        told = dict(zip(flags[::2], flags[1::2]))
        hosts = frozenset(told.pop("--host-whitelist", "*").split(","))
        strangers = Strangers(frozenset(told.pop("--cors", "*").split(",")), hosts)
        quota_bytes = quota(told.pop("--quota-backend-bytes", "0"))
        assert not told, f"the runner doesn't know these flags: {told}"
        self._nodes: list[tuple[FrontEnd, Node] | None] = []
        try:
            for at in peers:
                engine = engines[(at - 1) % len(engines)]
                port = self.ports[at - 1]
                said: dict[str, Any] = {"name": f"s{at}", "client_urls": (f"http://127.0.0.1:{port}",)}
                said["quota_bytes"] = quota_bytes
                config = NodeConfig(at, peers, f"{self._directory}/s{at}", engine, tick_s=tick_s, **said)
                self._nodes.append(_serving(Node(config), port, strangers))
            for each in self._nodes:
                assert each is not None
                each[1].start()
                each[0].start()
            eventually("all nodes have a leader", lambda: self._agree() and self._answer())
            eventually("all know of each other what they published", self._named)
            eventually("who is at the quota has raised the alarm", lambda: self._within(quota_bytes))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *_: object) -> None:
        for at, each in enumerate(self._nodes):
            if each is not None:
                self._stop(at)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _status(self) -> Iterator[dict[str, Any]]:
        return (each[1].status() for each in self._nodes if each is not None)

    def _agree(self) -> bool:
        leaders = {status["leader"] for status in self._status()}
        return len(leaders) == 1 and leaders != {0}

    def _answer(self) -> bool:
        return all(each[1].health()[0] for each in self._nodes if each is not None)

    def _named(self) -> bool:
        members = range(1, len(self._nodes) + 1)
        return all(each[1].etcd.attributes.of(at).name for each in self._nodes if each is not None for at in members)

    def _within(self, quota_bytes: int) -> bool:
        """Whether each node is within its quota, or has raised its alarm: a real etcd does that at the first put."""
        nodes = [each[1] for each in self._nodes if each is not None and quota_bytes]
        return all(
            node.machine.store.size_bytes() < quota_bytes or (node.id, AlarmType.NOSPACE) in node.etcd.alarms.raised
            for node in nodes
        )

    def leader(self) -> int:
        return next(status["leader"] for status in self._status()) - 1

    def kill(self, which: list[int], left: int) -> None:
        for at in which:
            self._stop(at)
        eventually("nobody leads any more", lambda: next(self._status())["leader"] == 0)

    def pass_time(self, seconds: float) -> None:
        for each in self._nodes:
            if each is not None:
                node = each[1]
                node.later(lambda node=node: node.etcd.leasing.pass_time(seconds))  # type: ignore[misc]

    def ailments(self) -> Iterator[tuple[int, str]]:
        """What is wrong with which node, after whatever was done to it."""
        for at, each in enumerate(self._nodes, 1):
            if each is None:
                continue
            front, node = each
            if node.failure is not None or not node.alive():
                yield at, f"has failed: {node.failure!r}"
            elif not node.health()[0]:
                yield at, "is not healthy"
            elif b'"kvs"' not in (answer := self._written(front.address[1])):
                yield at, f"doesn't write and read a key: {answer!r}"
            try:
                eventually("its connections have ended", lambda front=front: not front.threads)
            except TimeoutError:
                yield at, f"still serves {len(front.threads)} connections that have ended"

    def _written(self, port: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            for path, body in (("put", '{"key":"AA==","value":"AA=="}'), ("range", '{"key":"AA=="}')):
                connection.request("POST", f"/v3/kv/{path}", body)
                answer = connection.getresponse().read()
        return answer

    def _stop(self, at: int) -> None:
        each, self._nodes[at] = self._nodes[at], None
        assert each is not None
        each[0].stop(0.0)
        each[1].stop()


def _serving(node: Node, port: int, strangers: Strangers) -> tuple[FrontEnd, Node]:
    try:
        return FrontEnd(node, ("127.0.0.1", port), strangers=strangers), node
    except BaseException:
        node.stop()
        raise


class Etcd:
    """Nodes of a real etcd, as the recorder of the transcripts started them."""

    def __init__(self, count: int, flags: list[str], binary: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="etcd-gateway-", dir=scratch()))
        self.ports, self.peer_ports = free_ports(count), free_ports(count)
        members = ",".join(f"s{at}=http://127.0.0.1:{port}" for at, port in enumerate(self.peer_ports, 1))
        self._processes = []
        for at, (port, peer_port) in enumerate(zip(self.ports, self.peer_ports), 1):
            client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
            words = ["--name", f"s{at}", "--data-dir", str(self._directory / f"s{at}"), "--log-level", "error"]
            words += ["--listen-client-urls", client, "--advertise-client-urls", client, "--initial-cluster", members]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, *flags]
            silent = subprocess.DEVNULL
            self._processes.append(subprocess.Popen([binary, *words], stdin=silent, stdout=silent, stderr=silent))
        try:
            for port in self.ports:
                eventually("an etcd is healthy", lambda port=port: b'"true"' in _get(port, "/health"))
            eventually("the version is decided", lambda: b'"etcdcluster":"3.5' in _get(self.ports[0], "/version"))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Etcd:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def leader(self) -> int:
        for at, port in enumerate(self.ports):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            with contextlib.closing(connection):
                connection.request("POST", "/v3/maintenance/status", b"{}")
                status = json.loads(connection.getresponse().read())
            if status["leader"] == status["header"]["member_id"]:
                return at
        raise LookupError("nobody leads")

    def kill(self, which: list[int], left: int) -> None:
        for at in which:
            self._processes[at].send_signal(signal.SIGKILL)
            self._processes[at].wait()
        eventually("nobody leads any more", lambda: b"RAFT NO LEADER" in _get(self.ports[left], "/health"))

    def pass_time(self, seconds: float) -> None:
        """Nobody can."""


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read()
    except OSError:
        return b""

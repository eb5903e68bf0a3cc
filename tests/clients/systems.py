"""Who is asked by etcd's clients: three nodes of metcd on three engines, or three of a real etcd, as processes on loopback.

The real one is how the harness itself is judged: what its clients give there is what they have to give here.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from server.cluster import LocalCluster
from tests.server.local_nodes import cluster_port, free_ports

__all__ = ["ENGINES", "SYSTEMS", "Missing", "System", "ask", "etcd", "metcd", "until"]

ENGINES = ("lsm", "btree", "bitcask")
PATIENCE_S = 60.0
TURN_S = 0.05


class Missing(Exception):
    """Something that has to be installed isn't; the sentence says what."""


class System(Protocol):
    """A running cluster. urls: where clients reach each of its nodes."""

    urls: list[str]

    def kill(self, at: int) -> None:
        """Ends a node as a loss of power would; `at`: its place in `urls`."""


def ask(url: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of an answer; (0, b"") if none came."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5.0)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def until(what: str, look: object, timeout_s: float = PATIENCE_S) -> object:
    """What `look` returns, as soon as that is true. Raises AssertionError after `timeout_s`."""
    assert callable(look)
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (found := look()):
        assert time.monotonic() < deadline, f"within {timeout_s:g} s it did not happen that {what}"
        pause.wait(TURN_S)
    return found


class _Metcd:
    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.urls = [node.url for node in cluster.nodes]

    def kill(self, at: int) -> None:
        self._cluster.kill_node(self._cluster.nodes[at])


@contextlib.contextmanager
def metcd(directory: Path, engines: tuple[str, ...] = ENGINES) -> Iterator[System]:
    """`metcd cluster` on these engines; what its nodes say is in `nodes.log`."""
    with open(directory / "nodes.log", "a", buffering=1) as log:
        cluster = LocalCluster(list(engines), str(directory / "data"), cluster_port())
        cluster.say = lambda line: None if log.closed else print(line, file=log)
        with cluster:
            cluster.start()
            cluster.wait_until_healthy()
            yield _Metcd(cluster)


class _Etcd:
    def __init__(self, directory: Path, count: int) -> None:
        ports = free_ports(2 * count)
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[:count]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[count:]]
        listed = ",".join(f"s{at}={peer}" for at, peer in enumerate(peers, 1))
        self.processes: list[subprocess.Popen[bytes]] = []
        for at, (url, peer) in enumerate(zip(self.urls, peers), 1):
            with open(directory / f"s{at}.log", "ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        [
                            "etcd", "--name", f"s{at}", "--data-dir", str(directory / f"s{at}"), "--initial-cluster", listed,
                            "--listen-client-urls", url, "--advertise-client-urls", url,
                            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                        ],
                        stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
                    )
                )  # fmt: skip

    def kill(self, at: int) -> None:
        self.processes[at].kill()
        self.processes[at].wait()


@contextlib.contextmanager
def etcd(directory: Path, engines: tuple[str, ...] = ENGINES) -> Iterator[System]:
    """Debian's etcd, as many nodes as there are engines, which it has no use for. Raises Missing."""
    try:
        system = _Etcd(directory, len(engines))
    except FileNotFoundError:
        raise Missing("etcd isn't installed: apt-get install etcd-server") from None
    try:
        for url in system.urls:
            until(f"{url} is healthy", lambda url=url: ask(url, "/health")[0] == 200)
        yield system
    finally:
        for process in system.processes:
            process.kill()
            process.wait()


SYSTEMS = {"metcd": metcd, "etcd": etcd}

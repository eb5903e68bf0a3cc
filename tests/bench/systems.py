"""What tests/bench/http_load.py puts under load: our nodes, our nodes in plain form, and Debian's etcd beside them.

A system has a leader to ask, the processes whose CPU time counts, and a request for each row of the table and each key.
etcd (apt-get install etcd-server) is asked through the JSON gateway of its v3 API, which is its way in for those who speak
HTTP: keys and values in base64, a linearizable range for a GET, one with "serializable" for a stale one. It runs as it
comes: fsync on, three nodes on loopback, a data directory beside ours.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from server.client import Client
from server.cluster import LocalCluster
from tests.server.local_nodes import cluster_port, eventually, free_ports

__all__ = ["ROWS", "VALUE", "Asked", "System", "etcd", "ours"]

Cluster = TypeVar("Cluster", bound=LocalCluster)

VALUE = b"x" * 100
ROWS = ("PUT", "GET, linearizable", "GET, stale")


class Asked(NamedTuple):
    """One request: method, path, body."""

    method: str
    path: str
    body: bytes


class System:
    """Three nodes that have a leader."""

    def __init__(self, name: str, port: int, processes: list[int], leader: int) -> None:
        """port: of the leader, for clients. processes: their ids. leader: which of them leads, from 1 on."""
        self.name = name
        self.port = port
        self._processes = processes
        self.leader = leader

    def asked(self, row: str, key: int) -> Asked:
        """The request of a row for a key."""
        if row == "PUT":
            return Asked("PUT", f"/{key:016d}", VALUE)
        return Asked("GET", f"/{key:016d}" + ("?consistency=stale" if row == "GET, stale" else ""), b"")

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds so far, of all nodes and of the leader."""
        spent = [_cpu_s(process) for process in self._processes]
        return sum(spent), spent[self.leader - 1]


class _V3(System):
    """Asked as etcd is: through the JSON gateway."""

    def asked(self, row: str, key: int) -> Asked:
        words = {"key": _base64(b"%016d" % key)}
        if row == "PUT":
            return Asked("POST", "/v3/kv/put", json.dumps({**words, "value": _base64(VALUE)}).encode())
        stale = {"serializable": True} if row == "GET, stale" else {}
        return Asked("POST", "/v3/kv/range", json.dumps({**words, **stale}).encode())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _cpu_s(process: int) -> float:
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def ours(
    name: str,
    engines: list[str],
    directory: str,
    port: int | None = None,
    plain: bool = False,
    v3: bool = False,
    kind: type[Cluster] = LocalCluster,  # type: ignore[assignment]  # mypy#3737
) -> Iterator[tuple[System, Cluster]]:
    """Our nodes, one on each of these engines, and the cluster that runs them. Client ports: from `port` on, or any.

    plain: without accelerations. v3: asked through etcd's JSON gateway. kind: what runs them.
    """
    before = os.environ.get("METCD_PLAIN")
    with kind(engines, directory, port or cluster_port()) as cluster:
        os.environ["METCD_PLAIN"] = "1" if plain else ""
        try:
            cluster.start()
        finally:
            os.environ["METCD_PLAIN"] = before or ""
        cluster.wait_until_healthy()

        def look() -> int:
            with Client([cluster.nodes[0].url]) as client:
                found: int = client.status()["leader"]
                return found

        leader: int = eventually("a leader is known", look)
        processes = [cluster.processes[node.id].pid for node in cluster.nodes]
        asked = _V3 if v3 else System
        yield asked(name, cluster.nodes[leader - 1].client_port, processes, leader), cluster


@contextlib.contextmanager
def etcd(directory: str, nodes: int = 3) -> Iterator[System]:
    """Debian's etcd. Raises FileNotFoundError if it isn't installed."""
    program = shutil.which("etcd")
    if program is None:
        raise FileNotFoundError("there is no etcd here: apt-get install etcd-server")
    ports = free_ports(2 * nodes)
    clients, peers = ports[:nodes], ports[nodes:]
    cluster = ",".join(f"n{at}=http://127.0.0.1:{port}" for at, port in enumerate(peers))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for at in range(nodes):
            client, peer = f"http://127.0.0.1:{clients[at]}", f"http://127.0.0.1:{peers[at]}"
            words = ["--name", f"n{at}", "--data-dir", f"{directory}/n{at}", "--initial-cluster", cluster]
            words += ["--listen-client-urls", client, "--advertise-client-urls", client]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            words += ["--log-level", "error", "--quota-backend-bytes", str(4 << 30)]
            quiet = subprocess.DEVNULL
            # in a session of its own, as ours are: Linux shares the cores out among sessions
            processes.append(subprocess.Popen([program, *words], stdout=quiet, stderr=quiet, start_new_session=True))

        def look() -> int:
            """Which node leads, from 1 on."""
            for at, port in enumerate(clients, 1):
                with contextlib.suppress(OSError):
                    request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}")
                    with urllib.request.urlopen(request, timeout=1) as answer:
                        status = json.load(answer)
                    if status.get("leader", 0) == status["header"]["member_id"]:
                        return at
            return 0

        leader: int = eventually("etcd has a leader", look)
        yield _V3("etcd", clients[leader - 1], [process.pid for process in processes], leader)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

"""`python -m tests.cluster.growth`: what grows as a cluster is filled through HTTP, and how long each node needs to start on it.

    python -m tests.cluster.growth                              1,000,000 keys of 100 bytes, one PUT each, 64 clients
    python -m tests.cluster.growth --keys 100000 --clients 32   a smaller one

| column    | what it is                                                                            |
|-----------|---------------------------------------------------------------------------------------|
| keys      | written and acknowledged so far                                                       |
| a second  | PUTs since the line before                                                            |
| memory    | resident, of each node's process (VmRSS)                                              |
| log       | bytes in wal/ of each node; it must not grow with the keys                            |
| snap      | bytes in snap/ of each node                                                           |
| engine    | bytes of each node's engine                                                           |
| terms     | elections since the line before: a busy node should not lose its leadership           |

At the end each node is stopped and started: seconds from its start until it is healthy. Goal: the last tenth is written
with at least 0.7 of the first one's speed. The clients and the nodes share the machine, so the figures are for
comparing, and for seeing what grows that should not.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from server.config import NodeConfig
from tests.cluster.processes import ENGINES, Cluster, until

__all__ = ["main"]

VALUE = b"v" * 100
SERVED_S = 60.0
LINES = 10
PAUSE_S = 0.05


class _Filler:
    """Threads that PUT the keys 0 … n, each over one connection to one node."""

    def __init__(self, cluster: Cluster, keys: int, clients: int) -> None:
        self.done = 0
        self.again = 0
        self._cluster, self._keys = cluster, keys
        self._next = 0
        self._guard = threading.Lock()
        self._pause = threading.Event()
        nodes = sorted(cluster.engines)
        self._threads = [
            threading.Thread(target=self._run, args=(nodes[at % len(nodes)],), daemon=True) for at in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _take(self) -> int | None:
        with self._guard:
            self._next += 1
            return self._next - 1 if self._next <= self._keys else None

    def _run(self, node_id: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._cluster.client_ports[node_id], timeout=SERVED_S)
        while (number := self._take()) is not None:
            while not self._put(connection, b"/key%012d" % (number * 7_368_787 % 10**12)):
                self.again += 1
                self._pause.wait(PAUSE_S)
            with self._guard:
                self.done += 1
        connection.close()

    def _put(self, connection: http.client.HTTPConnection, target: bytes) -> bool:
        try:
            connection.request("PUT", target.decode(), VALUE)
            answer = connection.getresponse()
            answer.read()
            return answer.status == 204
        except (OSError, http.client.HTTPException):
            connection.close()
            return False

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.growth", description="What grows with the keys.")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--engines", default=",".join(ENGINES), help="of the three nodes (default: %(default)s)")
    parser.add_argument("--tick", type=float, default=NodeConfig.tick_s)
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="metcd-growth-"))
    try:
        with Cluster(
            directory, options.engines.split(","), tick_s=options.tick, proxied=False, recorded=False
        ) as cluster:
            return _fill(cluster, options.keys, options.clients)
    finally:
        shutil.rmtree(directory)


def _fill(cluster: Cluster, keys: int, clients: int) -> int:
    cluster.leader(SERVED_S)
    columns = "".join(f"{f'{what} {node}':>10}" for what in ("MB", "log", "snap", "engine") for node in cluster.engines)
    print(f"{'keys':>9}{'a second':>10}{columns}{'terms':>7}", flush=True)
    pause = threading.Event()
    filler = _Filler(cluster, keys, clients)
    rates: list[float] = []
    term, since, before = _term(cluster), time.monotonic(), 0
    for line in range(1, LINES + 1):
        while filler.done < keys * line // LINES:
            pause.wait(PAUSE_S)
        now, done = time.monotonic(), filler.done
        rates.append((done - before) / (now - since))
        sizes = [size for look in (_resident_mb, _log_mb, _snap_mb, _engine_mb) for size in look(cluster)]
        terms = _term(cluster) - term
        print(f"{done:>9,}{rates[-1]:>10,.0f}{''.join(f'{size:>10,.1f}' for size in sizes)}{terms:>7}", flush=True)
        term, since, before = term + terms, now, done
    filler.join()
    print(f"the last tenth at {rates[-1] / rates[0]:.2f} of the first one's speed; {filler.again} PUTs were sent again")
    for node_id, engine in cluster.engines.items():
        begin = time.monotonic()
        cluster.stop(node_id)
        stopped = time.monotonic()
        cluster.start(node_id)
        until(f"node {node_id} is healthy", lambda each=node_id: cluster.ask(each, "/_/health")[0] == 200, SERVED_S)
        print(f"node {node_id} ({engine}) stops in {stopped - begin:.2f} s and serves {time.monotonic() - stopped:.2f} s "
              "after its start", flush=True)  # fmt: skip
    return 0


def _term(cluster: Cluster) -> int:
    return max(cluster.status(node_id).get("term", 0) for node_id in cluster.engines)


def _resident_mb(cluster: Cluster) -> list[float]:
    """Of each node's process, in MB of 10**6 bytes, as all sizes here."""
    found = []
    for node_id in cluster.engines:
        status = Path(f"/proc/{cluster.running[node_id].pid}/status").read_text()
        found.append(int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6)
    return found


def _log_mb(cluster: Cluster) -> list[float]:
    return [_bytes(cluster.data(node_id) / "wal") / 1e6 for node_id in cluster.engines]


def _snap_mb(cluster: Cluster) -> list[float]:
    return [_bytes(cluster.data(node_id) / "snap") / 1e6 for node_id in cluster.engines]


def _engine_mb(cluster: Cluster) -> list[float]:
    return [_bytes(cluster.data(node_id) / "engine") / 1e6 for node_id in cluster.engines]


def _bytes(path: Path) -> int:
    """What the files of a directory, or a file, take; those that vanish meanwhile take nothing."""
    total = 0
    for file in [path, *path.rglob("*")]:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())

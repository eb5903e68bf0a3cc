"""Requests a second through HTTP, on three local nodes with fsync on: the table of the README.

    python -m tests.bench.http_load [--engines lsm,btree,bitcask] [--seconds 3] [--repeats 3] [--keys 1000]

Starts a cluster in a temporary directory, finds the leader, and for each row asks it with 1, 16 and 64 keep-alive
clients that each send the next request when they have the answer to the last (a closed loop), as `wrk` does. Rows are
interleaved, so that a slow minute of the machine hurts all of them; a cell is the median of the repeats. `wrk` makes
the load if it is installed, since it takes the least from the nodes' two cores; otherwise an epoll loop in this file
does, and the table says so. An answer other than 200 or 204 fails the run.

Keys have 16 bytes, values 100.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from server.client import Client
from server.cluster import LocalCluster, default_engines
from tests.server.local_nodes import cluster_port, eventually

VALUE = b"x" * 100
CLIENTS = (1, 16, 64)
WARM_UP_S = 1.0
ROWS = {"PUT": ("PUT", ""), "GET, linearizable": ("GET", ""), "GET, stale": ("GET", "?consistency=stale")}

LUA = """
local requests, at = {}, 0
function init()
  for key = 1, %(keys)d do
    requests[key] = wrk.format("%(method)s", string.format("/%%016d%(query)s", key), nil, %(body)s)
  end
  at = math.random(%(keys)d)
end
function request() at = at %% %(keys)d + 1; return requests[at] end
function done(summary, latency)
  io.write(string.format("RESULT %%.1f %%d %%d %%d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99), summary.errors.status + summary.errors.timeout
    + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


class Run(NamedTuple):
    """What one run measured; latencies are of whole requests."""

    per_second: float
    median_us: float
    p99_us: float


def measure(port: int, row: str, clients: int, seconds: float, keys: int) -> Run:
    """Loads a node with one row's requests. Raises AssertionError if anything but success was answered."""
    method, query = ROWS[row]
    if shutil.which("wrk") is not None:
        return _measure_with_wrk(port, method, query, clients, seconds, keys)
    return _measure_with_epoll(port, method, query, clients, seconds, keys)


def _measure_with_wrk(port: int, method: str, query: str, clients: int, seconds: float, keys: int) -> Run:
    body = f'"{VALUE.decode()}"' if method == "PUT" else "nil"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % {"keys": keys, "method": method, "query": query, "body": body})
        script.flush()
        words = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", script.name]
        output = subprocess.run([*words, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True).stdout
    result = re.search(r"RESULT (\S+) (\d+) (\d+) (\d+)", output)
    assert result is not None, output
    assert result[4] == "0", output
    return Run(float(result[1]), float(result[2]), float(result[3]))


def _measure_with_epoll(port: int, method: str, query: str, clients: int, seconds: float, keys: int) -> Run:
    """A closed loop over nonblocking sockets. An answer is whole with its head and Content-Length bytes."""
    body = VALUE if method == "PUT" else b""
    head = "{} /{:016d}{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(method, key, query, len(body)).encode() + body for key in range(1, keys + 1)]
    poll = select.epoll()
    sockets = {}
    for number in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = [connection, b"", 0.0, number * keys // clients]
        poll.register(connection.fileno(), select.EPOLLIN)
    latencies = []
    began = time.perf_counter()
    try:
        for state in sockets.values():
            state[2] = time.perf_counter()
            state[0].sendall(requests[state[3]])
        while (now := time.perf_counter()) - began < seconds:
            for descriptor, _ in poll.poll(1.0):
                state = sockets[descriptor]
                state[1] += state[0].recv(65536)
                if not _is_whole(state[1]):
                    continue
                assert state[1].startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 ")), state[1]
                now = time.perf_counter()
                latencies.append(now - state[2])
                state[1], state[2], state[3] = b"", now, (state[3] + 1) % keys
                state[0].sendall(requests[state[3]])
    finally:
        poll.close()
        for state in sockets.values():
            state[0].close()
    cuts = [1e6 * cut for cut in statistics.quantiles(latencies, n=100)]
    return Run(len(latencies) / (now - began), cuts[49], cuts[98])


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    return bool(end) and len(body) == (int(length[1]) if length else 0)


def leader_port(cluster: LocalCluster) -> int:
    """The client port of the node that leads."""

    def look() -> int:
        with Client([cluster.nodes[0].url]) as client:
            leader: int = client.status()["leader"]
            return leader

    leader = eventually("a leader is known", look)
    return cluster.nodes[leader - 1].client_port


def run(options: argparse.Namespace) -> dict[tuple[str, int], list[Run]]:
    """All rows, interleaved, `repeats` times, on a fresh cluster."""
    runs: dict[tuple[str, int], list[Run]] = {}
    names = options.engines.split(",")
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as directory,
        LocalCluster(names, directory, options.port or cluster_port()) as cluster,
    ):
        cluster.start()
        cluster.wait_until_healthy()
        measure(leader_port(cluster), "PUT", 16, WARM_UP_S, options.keys)  # every key is there from now on
        for repeat, row, clients in product(range(options.repeats), ROWS, CLIENTS):
            found = measure(leader_port(cluster), row, clients, options.seconds, options.keys)
            runs.setdefault((row, clients), []).append(found)
            print(f"{repeat + 1}/{options.repeats}  {row}, {clients}: {found}", file=sys.stderr)
    return runs


def table(runs: dict[tuple[str, int], list[Run]], options: argparse.Namespace) -> str:
    """Medians, as Markdown."""
    tool = "wrk" if shutil.which("wrk") else "an epoll loop in Python, which takes its share of the cores"
    lines = [
        f"Requests a second to the leader of {len(options.engines.split(','))} nodes ({options.engines}) on "
        f"{os.cpu_count()} cores, fsync on; median of {options.repeats} runs of {options.seconds:g} s, load by {tool}. "
        "In brackets the median and the 99th percentile of the latency, in ms.",
        "",
        "| | " + " | ".join(f"{clients} client{'s' * (clients > 1)}" for clients in CLIENTS) + " |",
        "|---|" + "---|" * len(CLIENTS),
    ]
    for row in ROWS:
        cells = []
        for clients in CLIENTS:
            per_second, median_us, p99_us = (statistics.median(column) for column in zip(*runs[row, clients]))
            cells.append(f"{per_second:,.0f} ({median_us / 1000:.1f}, {p99_us / 1000:.1f})")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Requests a second through HTTP, on three local nodes.")
    names = default_engines()
    parser.add_argument(
        "--engines", default=",".join(names[at % len(names)] for at in range(3)), help="one for each node"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--keys", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--port", type=int, help="node 1's client port (default: any that is free)")
    parser.add_argument("--directory", help="where the data is for the time being (default: the system's)")
    options = parser.parse_args(arguments)
    print(table(run(options), options))


if __name__ == "__main__":
    main()

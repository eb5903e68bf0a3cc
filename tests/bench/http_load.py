"""Requests a second through HTTP, on three local nodes with fsync on: the table of the README.

    python -m tests.bench.http_load [--engines lsm,btree,bitcask] [--seconds 3] [--repeats 3] [--keys 1000]
    python -m tests.bench.http_load --against etcd --repeats 5      Debian's etcd beside them, and how many times as fast
    python -m tests.bench.http_load --against etcd --v3             the same, ours asked through etcd's JSON gateway, too
    python -m tests.bench.http_load --against plain                 the same for our own nodes under METCD_PLAIN=1

Starts a cluster in a temporary directory, finds the leader, and for each row asks it with 1, 16 and 64 keep-alive
clients that each send the next request when they have the answer to the last (a closed loop), as `wrk` does. Rows and
systems are interleaved, so that a slow minute of the machine hurts all of them; a cell is the median of the repeats, a
ratio the median of the ratios of runs that followed each other. `wrk` makes the load if it is installed, since it takes
the least from the nodes' two cores; otherwise an epoll loop in this file does, and the table says so. An answer other than
200 or 204 fails the run.

Keys have 16 bytes, values 100. CPU time is that of all nodes of a system, for each request: it says more than a rate where
others use the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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

from server.cluster import default_engines
from tests.bench.systems import ROWS, Asked, System, etcd, ours

CLIENTS = (1, 16, 64)
WARM_UP_S = 1.0

LUA = """
local requests, at = {%(requests)s}, 0
function init()
  for key = 1, #requests do
    requests[key] = wrk.format(requests[key][1], requests[key][2], nil, requests[key][3])
  end
  at = math.random(#requests)
end
function request() at = at %% #requests + 1; return requests[at] end
function done(summary, latency)
  io.write(string.format("RESULT %%.1f %%d %%d %%d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99), summary.errors.status + summary.errors.timeout
    + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


class Run(NamedTuple):
    """What one run measured; latencies are of whole requests, CPU time is for each of them."""

    per_second: float
    median_us: float
    p99_us: float
    cpu_us: float = 0.0  # of all nodes
    leader_cpu_us: float = 0.0


def measure(system: System, row: str, clients: int, seconds: float, keys: int) -> Run:
    """Loads a system's leader with one row's requests. Raises AssertionError if anything but success was answered."""
    requests = [system.asked(row, key) for key in range(1, keys + 1)]
    load = _measure_with_wrk if shutil.which("wrk") is not None else _measure_with_epoll
    before = system.cpu_s()
    run = load(system.port, requests, clients, seconds)
    spent, led = (after - earlier for after, earlier in zip(system.cpu_s(), before))
    answered = run.per_second * seconds
    return run._replace(cpu_us=1e6 * spent / answered, leader_cpu_us=1e6 * led / answered)


def _measure_with_wrk(port: int, requests: list[Asked], clients: int, seconds: float) -> Run:
    lines = [f"{{{json.dumps(a.method)}, {json.dumps(a.path)}, {json.dumps(a.body.decode())}}}" for a in requests]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % {"requests": ",\n".join(lines)})
        script.flush()
        words = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", script.name]
        output = subprocess.run([*words, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True).stdout
    result = re.search(r"RESULT (\S+) (\d+) (\d+) (\d+)", output)
    assert result is not None, output
    assert result[4] == "0", output
    return Run(float(result[1]), float(result[2]), float(result[3]))


def _measure_with_epoll(port: int, asked: list[Asked], clients: int, seconds: float) -> Run:
    """A closed loop over nonblocking sockets. An answer is whole with its head and Content-Length bytes."""
    head = "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(one.method, one.path, len(one.body)).encode() + one.body for one in asked]
    keys = len(requests)
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


def run(options: argparse.Namespace) -> dict[tuple[str, str, int], list[Run]]:
    """All rows of all systems, interleaved, `repeats` times, on fresh clusters. By system, row and clients."""
    runs: dict[tuple[str, str, int], list[Run]] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory, contextlib.ExitStack() as stack:
        names = options.engines.split(",")
        systems = [stack.enter_context(ours("metcd", names, f"{directory}/metcd", options.port, v3=options.v3))[0]]
        if options.against == "etcd":
            systems.append(stack.enter_context(etcd(f"{directory}/etcd", len(names))))
        elif options.against == "plain":
            systems.append(
                stack.enter_context(ours("plain", names, f"{directory}/plain", plain=True, v3=options.v3))[0]
            )
        for system in systems:  # every key is there from now on
            measure(system, "PUT", 16, WARM_UP_S, options.keys)
        for repeat, row, clients, system in product(range(options.repeats), ROWS, CLIENTS, systems):
            found = measure(system, row, clients, options.seconds, options.keys)
            runs.setdefault((system.name, row, clients), []).append(found)
            print(f"{repeat + 1}/{options.repeats}  {system.name}, {row}, {clients}: {found}", file=sys.stderr)
    return runs


def table(runs: dict[tuple[str, str, int], list[Run]], options: argparse.Namespace) -> str:
    """Medians, as Markdown."""
    tool = "wrk" if shutil.which("wrk") else "an epoll loop in Python, which takes its share of the cores"
    lines = [
        f"Requests a second to the leader of {len(options.engines.split(','))} nodes ({options.engines}) on "
        f"{os.cpu_count()} cores, fsync on; median of {options.repeats} runs of {options.seconds:g} s, load by {tool}. "
        "In brackets the median and the 99th percentile of the latency, in ms, and the CPU time of all nodes for each "
        "request, in µs.",
        "",
        "| | " + " | ".join(f"{clients} client{'s' * (clients > 1)}" for clients in CLIENTS) + " |",
        "|---|" + "---|" * len(CLIENTS),
    ]
    names = list(dict.fromkeys(name for name, _, _ in runs))
    for row in ROWS:
        for name in names:
            cells = []
            for clients in CLIENTS:
                found = [statistics.median(column) for column in zip(*runs[name, row, clients])]
                cells.append(f"{found[0]:,.0f} ({found[1] / 1000:.1f}, {found[2] / 1000:.1f}, {found[3]:.0f})")
            lines.append(f"| {row}{'' if len(names) == 1 else f', {name}'} | " + " | ".join(cells) + " |")
        for name in names[1:]:
            lines.append(
                f"| {row}, times {name}'s: rate; p99 | " + " | ".join(_ratios(runs, row, names[0], name)) + " |"
            )
    return "\n".join(lines)


def _ratios(runs: dict[tuple[str, str, int], list[Run]], row: str, one: str, other: str) -> list[str]:
    """How many times as fast one system is as the other, and its 99th percentile in terms of the other's."""
    cells = []
    for clients in CLIENTS:
        pairs = list(zip(runs[one, row, clients], runs[other, row, clients]))
        rate = statistics.median(a.per_second / b.per_second for a, b in pairs)
        late = statistics.median(a.p99_us / b.p99_us for a, b in pairs)
        cells.append(f"**{rate:.2f}**; {late:.2f}")
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Requests a second through HTTP, on three local nodes.")
    names = default_engines()
    parser.add_argument(
        "--engines", default=",".join(names[at % len(names)] for at in range(3)), help="one for each node"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--keys", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument(
        "--against", choices=["etcd", "plain"], help="another system that is measured in turn with ours"
    )
    parser.add_argument("--v3", action="store_true", help="our nodes are asked through etcd's JSON gateway")
    parser.add_argument("--port", type=int, help="node 1's client port (default: any that is free)")
    parser.add_argument("--directory", help="where the data is for the time being (default: the system's)")
    options = parser.parse_args(arguments)
    print(table(run(options), options))


if __name__ == "__main__":
    main()

"""How soon a change reaches a thousand watchers of its key, beside Debian's etcd: three nodes each, fsync on.

    python -m tests.bench.watch_load [--watchers 1000] [--shapes streams,one] [--rate 10] [--seconds 5] [--repeats 3] [--against etcd]

streams: each watcher is a stream of its own, all at the leader. one: all watches are on one stream. A writer puts the watched
key `rate` times a second through /v3/kv/put; its value is the moment at which it was sent, by the clock that all processes share,
and a reader in a process of its own notes for each event how long ago that was. So a latency is that of the whole way: the write
with its fsync on a majority, and its event. Then WRITERS clients put as fast as they can, first another key, then the watched one:
what watchers cost those who write.

Systems take turns. The reader takes its share of the two cores from all of them.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import select
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from server.cluster import default_engines
from tests.bench.http_load import Run, measure
from tests.bench.systems import Asked, System, etcd, ours

KEY = b"watched"
WRITERS = 16
SETTLE_S = 20.0
CREATED_S = 5.0
OPENING = 64  # streams that are opened at a time
VALUE = re.compile(rb'"value":"([A-Za-z0-9+/=]+)"')


class Delivery(NamedTuple):
    """What one run measured: latencies in ms, events that came for each second, CPU ms of all
    nodes for each put. watches: how many were created."""

    p50_ms: float
    p99_ms: float
    longest_ms: float
    events_per_s: float
    cpu_ms: float
    watches: int


def main(arguments: Sequence[str] | None = None) -> None:
    names = default_engines()
    parser = argparse.ArgumentParser(description="How soon a change reaches those who watch its key.")
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--shapes", default="streams,one")
    parser.add_argument("--rate", type=float, default=10.0, help="puts a second (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", choices=["etcd", "plain", "nobody"], default="etcd")
    parser.add_argument("--engines", default=",".join(names[at % len(names)] for at in range(3)))
    parser.add_argument("--directory", help="where the data is for the time being (default: the system's)")
    options = parser.parse_args(arguments)
    print(table(run(options), options))


Runs = dict[tuple[str, str], list[tuple[Delivery, Run, Run]]]


def run(options: argparse.Namespace) -> Runs:
    """All shapes of all systems, interleaved."""
    runs: Runs = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory, contextlib.ExitStack() as stack:
        names = options.engines.split(",")
        systems = [stack.enter_context(ours("metcd", names, f"{directory}/metcd"))[0]]
        if options.against == "etcd":
            systems.append(stack.enter_context(etcd(f"{directory}/etcd", len(names))))
        elif options.against == "plain":
            systems.append(stack.enter_context(ours("plain", names, f"{directory}/plain", plain=True))[0])
        shapes = ["none", *options.shapes.split(",")]
        for repeat, shape, system in product(range(options.repeats), shapes, systems):
            found = _measured(system, shape, options)
            runs.setdefault((system.name, shape), []).append(found)
            print(f"{repeat + 1}/{options.repeats}  {system.name}, {shape}: {found}", file=sys.stderr, flush=True)
    return runs


def _measured(system: System, shape: str, options: argparse.Namespace) -> tuple[Delivery, Run, Run]:
    with _watched(system, shape, options.watchers) as (reader, watches):
        began = system.cpu_s()[0]
        puts = _write(system.port, options.rate, options.seconds)
        reader.send("told")
        latencies: list[float] = reader.recv()
        spent = system.cpu_s()[0] - began
        others, same = (measure(_Puts(system, key), "PUT", WRITERS, options.seconds / 2, 1) for key in (b"other", KEY))
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    delivery = Delivery(
        1000 * cuts[49],
        1000 * cuts[98],
        1000 * max(latencies, default=0.0),
        len(latencies) / options.seconds,
        1000 * spent / puts,
        watches,
    )
    return delivery, others, same


class _Puts(System):
    """A system that is asked to put one key through the gateway."""

    def __init__(self, system: System, key: bytes) -> None:
        super().__init__(system.name, system.port, [], system.leader)
        self._of = system
        self._body = json.dumps({"key": _coded(key), "value": _coded(b"x" * 100)}).encode()

    def asked(self, row: str, key: int) -> Asked:
        return Asked("POST", "/v3/kv/put", self._body)

    def cpu_s(self) -> tuple[float, float]:
        return self._of.cpu_s()


def _write(port: int, rate: float, seconds: float) -> int:
    """Puts the watched key so often, each time with the moment as its value; how often."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SETTLE_S)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pause = threading.Event()  # never set
    began = time.monotonic()
    count = 0
    while (due := began + count / rate) < began + seconds:
        pause.wait(max(0.0, due - time.monotonic()))
        value = _coded(b"%.9f" % time.monotonic())
        connection.request("POST", "/v3/kv/put", json.dumps({"key": _coded(KEY), "value": value}))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        count += 1
    connection.close()
    return count


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# ---- the reader's process ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _watched(system: System, shape: str, watchers: int) -> Iterator[tuple[multiprocessing.connection.Connection, int]]:
    """A process that watches, and how many of its watches were created; "told" has it say what it has measured when
    everything has come that was written."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_read, args=(there, system.port, shape, watchers), daemon=True)
    process.start()
    try:
        yield here, here.recv()
    finally:
        process.terminate()
        process.join()


def _read(pipe: multiprocessing.connection.Connection, port: int, shape: str, watchers: int) -> None:
    streams = {"none": 0, "one": 1}.get(shape, watchers)
    request = json.dumps({"create_request": {"key": _coded(KEY)}}).encode()
    body = request * (watchers if shape == "one" else 1)
    asked = b"POST /v3/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    poll = select.epoll()
    connections = {}
    created = 0
    kept: dict[int, bytes] = {}  # of each stream, a line that isn't whole
    while created < (watchers if streams else 0):
        while len(connections) < min(streams, created + OPENING):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(asked)
            connections[connection.fileno()] = connection
            poll.register(connection.fileno(), select.EPOLLIN)
        ready = poll.poll(CREATED_S)
        if not ready:  # etcd's gateway loses requests of a long body that it has not read when its answer begins
            break
        for descriptor, _ in ready:
            data = connections[descriptor].recv(1 << 16)
            assert data, "a stream was refused"
            *lines, kept[descriptor] = (kept.pop(descriptor, b"") + data).split(b"\n")
            created += sum(b'"created":true' in line for line in lines)
    pipe.send(created)
    latencies: list[float] = []
    poll.register(pipe.fileno(), select.EPOLLIN)
    told = False
    while True:
        ready = poll.poll(1.0 if told else SETTLE_S)
        if not ready and told:
            break
        now = time.monotonic()
        for descriptor, _ in ready:
            if descriptor == pipe.fileno():
                told = True
                poll.unregister(descriptor)
                pipe.recv()
                continue
            data = kept.pop(descriptor, b"") + connections[descriptor].recv(1 << 18)
            last = data.rfind(b"\n") + 1
            if last < len(data):
                kept[descriptor] = data[last:]
            for value in VALUE.findall(data, 0, last):
                latencies.append(now - float(base64.b64decode(value)))
    pipe.send(latencies)
    while True:  # the writers' rate is measured with all that comes taken
        for descriptor, _ in poll.poll(SETTLE_S):
            connections[descriptor].recv(1 << 18)


# ---- the table ---------------------------------------------------------------------------------------------------------


def table(runs: Runs, options: argparse.Namespace) -> str:
    """Medians of all runs, as Markdown; and of the ratios of runs that followed each other."""
    lines = [
        f"{options.watchers:,} watchers of one key at the leader of three nodes ({options.engines}) on {os.cpu_count()} cores, "
        f"fsync on; {options.rate:g} puts a second; medians of {options.repeats} runs of {options.seconds:g} s.",
        "",
        "| | delivery p50, ms | p99, ms | longest, ms | CPU of all nodes a put, ms | puts a second of another key | of the watched key |",
        "|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(name for name, _ in runs))
    for shape in dict.fromkeys(shape for _, shape in runs):
        for name in names:
            found = runs[name, shape]
            cells = [statistics.median(each) for each in zip(*(delivery for delivery, _, _ in found))]
            rates = [statistics.median(each[at].per_second for each in found) for at in (1, 2)]
            few = "" if shape == "none" or cells[5] == options.watchers else f" ({cells[5]:.0f} watches were created)"
            lines.append(
                f"| {shape}, {name}{few} | {cells[0]:.1f} | {cells[1]:.1f} | {cells[2]:.1f} | {cells[4]:.1f} "
                f"| {rates[0]:,.0f} | {rates[1]:,.0f} |"
            )
        if len(names) > 1:
            pairs = list(zip(runs[names[0], shape], runs[names[1], shape]))
            if any(one[0].watches != other[0].watches for one, other in pairs):
                continue  # they had not the same to do
            late = [
                statistics.median(one[0][at] / other[0][at] for one, other in pairs if other[0][at])
                if shape != "none"
                else 0
                for at in (0, 1)
            ]
            fast = [
                statistics.median(one[at].per_second / other[at].per_second for one, other in pairs) for at in (1, 2)
            ]
            lines.append(
                f"| {shape}, times {names[1]}'s | **{late[0]:.2f}** | **{late[1]:.2f}** | | | **{fast[0]:.2f}** | **{fast[1]:.2f}** |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

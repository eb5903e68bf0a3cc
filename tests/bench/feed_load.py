"""What pages that watch cost: requests a second with none, one and ten of them, beside a build of before.

    python -m tests.bench.feed_load --before DIR [--pages 0,1,10] [--clients 16,64] [--seconds 3] [--repeats 5]

DIR is another checkout of this repository. As tests/bench/http_load.py does, it loads the leader of three nodes in a closed
loop, with `wrk` if it is installed; a page is what a browser has open: a feed of each of the three nodes, read to its last
byte. What a browser does with the frames isn't counted: it runs on another machine, or on a core of its own.

Systems take turns in each round, and each round begins with another one. A ratio is the median of the rounds' ratios to the
build of before (without DIR: to no page).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from itertools import product

from server.client import Client
from server.cluster import LocalCluster, LocalNode, default_engines
from tests.bench.http_load import WARM_UP_S, Run, measure
from tests.bench.systems import System, ours

ROWS = ("PUT", "GET, linearizable")
ASKED = b"GET /_/feed HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


class Before(LocalCluster):
    """Nodes that run another checkout, in fast form."""

    directory = ""

    def command(self, node: LocalNode) -> list[str]:
        words = super().command(node)
        at = words.index("serve")
        if "--page-with" in words[at:]:  # it may be of before there was a page
            told = words.index("--page-with")
            del words[told : told + 2]
        return ["env", f"PYTHONPATH={self.directory}", sys.executable, "-P", "-m", "server", *words[at:]]


def _lead(system: System, cluster: LocalCluster) -> None:
    """Has node 1 lead: a leader's engine decides what a GET costs, and all systems must have the same."""
    with Client([cluster.nodes[0].url]) as client:
        client.transfer(1)
    system.port, system.leader = cluster.nodes[0].client_port, 1


@contextlib.contextmanager
def watched(ports: Sequence[int], pages: int) -> Iterator[list[int]]:
    """So many pages read the feeds of all nodes meanwhile; yields a list of one number, the bytes that came."""
    came = [0]
    over = threading.Event()
    selector = selectors.DefaultSelector()
    for port in list(ports) * pages:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(ASKED)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)

    def read() -> None:
        while not over.is_set():
            for key, _ in selector.select(0.1):
                came[0] += len(key.fileobj.recv(1 << 16))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield came
    finally:
        over.set()
        reader.join()
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()


def run(options: argparse.Namespace) -> dict[tuple[str, str, int], list[Run]]:
    """All runs, by system, row and clients."""
    runs: dict[tuple[str, str, int], list[Run]] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory, contextlib.ExitStack() as stack:
        system, cluster = stack.enter_context(ours("now", default_engines(), f"{directory}/now"))
        ports = [node.client_port for node in cluster.nodes]
        subjects: list[tuple[str, System, int]] = [(f"{pages} pages", system, pages) for pages in options.pages]
        if options.before:
            Before.directory = os.path.abspath(options.before)
            before, other = stack.enter_context(ours("before", default_engines(), f"{directory}/before", kind=Before))
            subjects.insert(0, ("before", before, 0))
            _lead(before, other)
        _lead(system, cluster)
        for _, each, _ in subjects:
            measure(each, "PUT", 16, WARM_UP_S, options.keys)
        for repeat, (row, clients) in product(range(options.repeats), product(ROWS, options.clients)):
            at = repeat % len(subjects)
            for name, each, pages in subjects[at:] + subjects[:at]:
                with watched(ports, pages) as came:
                    found = measure(each, row, clients, options.seconds, options.keys)
                assert bool(pages) == bool(came[0]), "a page that is there gets frames"
                runs.setdefault((name, row, clients), []).append(found)
                print(
                    f"{repeat + 1}/{options.repeats}  {name}, {row}, {clients}: {found}, {came[0]} B", file=sys.stderr
                )
    return runs


def table(runs: dict[tuple[str, str, int], list[Run]]) -> str:
    """Medians, and in brackets the medians of the ratios to the first system and its CPU time for each request, as Markdown."""
    names = list(dict.fromkeys(name for name, _, _ in runs))
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row, clients in dict.fromkeys((row, clients) for _, row, clients in runs):
        first = runs[names[0], row, clients]
        cells = []
        for name in names:
            found = runs[name, row, clients]
            rate = statistics.median(each.per_second for each in found)
            ratio = statistics.median(each.per_second / other.per_second for each, other in zip(found, first))
            cpu = statistics.median(each.cpu_us for each in found)
            cells.append(f"{rate:,.0f} (**{ratio:.3f}**; {cpu:.0f} µs)")
        lines.append(f"| {row}, {clients} clients | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What pages that watch cost.")
    parser.add_argument("--before", metavar="DIR", help="a checkout of before, to compare with")
    parser.add_argument("--pages", type=_numbers, default=[0, 1, 10], help="(default: 0,1,10)")
    parser.add_argument("--clients", type=_numbers, default=[16, 64], help="(default: 16,64)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--keys", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--directory", help="where the data is for the time being (default: the system's)")
    print(table(run(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()

"""`python -m tests.cluster.outage --kills 20`: how long is nobody served, and how many terms does it cost? Figures, no verdict.

A client at each node writes without a pause, each over one connection. A client's pause is the longest time between two of its
acknowledged writes, from the event until it is over and everybody is served again; clients of a node that is itself
gone or cut off are not counted, for they have to go elsewhere.

| event           | what happens                                                | goal                                |
|-----------------|---------------------------------------------------------------|-------------------------------------|
| kill            | kill -9 of the leader; it comes back                        | below 2 s, the longest of all       |
| cut link        | leader and one follower can't reach each other, for 5 s     | no term, no pause                   |
| returning node  | a follower that was cut off for 5 s comes back              | no term, no pause                   |
| deaf leader     | the leader can send and hears nothing, for 5 s              | below 2 s                           |
| transfer        | the leader is asked to hand over                            | no pause                            |
| stop            | SIGTERM of the leader; it comes back                        | no pause                            |

The ticks are those of `metcd serve`, unless told otherwise.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from server.config import NodeConfig
from tests.cluster.processes import Cluster, Failed, until
from tests.cluster.proxy import DROP

__all__ = ["EVENTS", "Writer", "main"]

LASTS_S = 5.0
SERVED_S = 30.0
TIMEOUT_S = 20.0
PAUSE_S = 0.01  # after an answer that nothing was done


class Writer(threading.Thread):
    """Writes to one node without a pause; `acks` has the time of each acknowledgement."""

    def __init__(self, node_id: int, port: int) -> None:
        super().__init__(name=f"writer-{node_id}", daemon=True)
        self.node_id = node_id
        self.acks = [time.monotonic()]
        self.unknown = 0
        self.refused = 0
        self._port = port
        self._ended = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        number = 0
        while not self._ended.is_set():
            number += 1
            try:
                connection.request("PUT", f"/outage/{self.node_id}/{number % 100}", b"%d" % number)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 204:
                    self.acks.append(time.monotonic())
                    continue
                self.unknown += answer.status == 504
                self.refused += answer.status == 503
            except (OSError, http.client.HTTPException):
                connection.close()
            self._ended.wait(PAUSE_S)
        connection.close()

    def stop(self) -> None:
        self._ended.set()

    def pause_s(self, since: float) -> float:
        """The longest time without an acknowledgement from `since` to now."""
        acks = list(self.acks)
        times = [
            max([at for at in acks if at <= since], default=since),
            *(at for at in acks if at > since),
            time.monotonic(),
        ]
        times[0] = max(times[0], since)
        return max(later - earlier for earlier, later in itertools.pairwise(times))


class Scene:
    """Three nodes, a writer at each, and what an event did to them."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.writers = {node_id: Writer(node_id, cluster.client_ports[node_id]) for node_id in cluster.engines}
        self._pause = threading.Event()

    def term(self) -> int:
        return max(self.cluster.status(node_id).get("term", 0) for node_id in self.cluster.running)

    def lasts(self) -> None:
        self._pause.wait(LASTS_S)

    def served(self, since: float) -> None:
        """Returns when each writer has been acknowledged since then."""
        until(
            "every writer is acknowledged again",
            lambda: all(each.acks[-1] > since for each in self.writers.values()),
            SERVED_S,
        )


Event = Callable[[Scene], list[int]]  # does it, and returns the nodes whose clients count


def kill(scene: Scene) -> list[int]:
    victim = scene.cluster.leader()
    counted = scene.cluster.followers()
    now = time.monotonic()
    scene.cluster.kill(victim)
    until("both followers serve", lambda: all(scene.writers[each].acks[-1] > now for each in counted), SERVED_S)
    scene.cluster.start(victim)
    return counted


def cut_link(scene: Scene) -> list[int]:
    leader, follower = scene.cluster.leader(), scene.rng.choice(scene.cluster.followers())
    scene.cluster.proxy.set(DROP, (leader, follower), (follower, leader))
    scene.lasts()
    scene.cluster.heal()
    return [each for each in scene.cluster.engines if each != follower]


def returning_node(scene: Scene) -> list[int]:
    follower = scene.rng.choice(scene.cluster.followers())
    scene.cluster.proxy.set(DROP, *(link for link in scene.cluster.proxy.links() if follower in link))
    scene.lasts()
    scene.cluster.heal()
    return [each for each in scene.cluster.engines if each != follower]


def deaf_leader(scene: Scene) -> list[int]:
    leader = scene.cluster.leader()
    scene.cluster.proxy.set(DROP, *((other, leader) for other in scene.cluster.engines if other != leader))
    scene.lasts()
    scene.cluster.heal()
    return [each for each in scene.cluster.engines if each != leader]


def transfer(scene: Scene) -> list[int]:
    leader, to = scene.cluster.leader(), scene.rng.choice(scene.cluster.followers())
    status, body = scene.cluster.ask(leader, f"/_/leader/{to}", "POST")
    if status // 100 != 2:
        raise Failed(f"a transfer was answered {status}: {body!r}")
    until(f"node {to} leads", lambda: scene.cluster.status(to).get("leader") == to, SERVED_S)
    return list(scene.cluster.engines)


def stop(scene: Scene) -> list[int]:
    victim = scene.cluster.leader()
    counted = scene.cluster.followers()
    scene.cluster.stop(victim)
    scene.cluster.start(victim)
    return counted


EVENTS: dict[str, Event] = {
    event.__name__: event for event in (kill, cut_link, returning_node, deaf_leader, transfer, stop)
}


def play(scene: Scene, event: Event) -> tuple[list[float], int]:
    """The pause of each client that counts, and the terms that it took."""
    for node_id in scene.cluster.engines:
        until(
            f"node {node_id} is healthy", lambda each=node_id: scene.cluster.ask(each, "/_/health")[0] == 200, SERVED_S
        )
    scene.served(time.monotonic())
    term, began = scene.term(), time.monotonic()
    counted = event(scene)
    scene.served(time.monotonic())
    return [scene.writers[node_id].pause_s(began) for node_id in counted], scene.term() - term


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.outage", description="Time without service.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--times", type=int, default=5, help="each of the other events (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=sorted(EVENTS), help="some of the events")
    parser.add_argument("--tick", type=float, default=NodeConfig.tick_s)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print(
        f"{'event':<18}{'times':>6}{'pause: p50':>12}{'longest':>10}{'terms':>7}{'most':>6}{'unknown':>9}", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="metcd-outage-") as directory:
        for name, event in EVENTS.items():
            if options.only is None or name in options.only:
                _print(name, event, options, Path(directory))
    return 0


def _print(name: str, event: Event, options: argparse.Namespace, directory: Path) -> None:
    times = options.kills if event is kill else options.times
    pauses: list[float] = []
    terms: list[int] = []
    with Cluster(directory / name, tick_s=options.tick) as cluster:
        cluster.leader(SERVED_S)
        scene = Scene(cluster, random.Random(options.seed))
        for writer in scene.writers.values():
            writer.start()
        try:
            for _ in range(times):
                paused, passed = play(scene, event)
                pauses += paused
                terms.append(passed)
        except Failed as error:
            print(f"{name:<18}{error}")
        for writer in scene.writers.values():
            writer.stop()
            writer.join()
        unknown = sum(writer.unknown for writer in scene.writers.values())
    if terms:
        print(
            f"{name.replace('_', ' '):<18}{len(terms):>6}{statistics.median(pauses):>10.2f} s{max(pauses):>8.2f} s"
            f"{sum(terms):>7}{max(terms):>6}{unknown:>9}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())

"""A thousand locks that are taken by leases and lost: the holders vanish, and the next ones get them in their order.

Through the gateway of three nodes with three engines. A holder vanishes by never asking again; its lease ends by itself, by a
clock that the test turns.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.nodes import Ours, eventually

ENGINES = ["lsm", "btree", "bitcask"]
TTL_S = 60
PATIENCE_S = 120.0


class Held:
    """A lock that somebody was given: which, who, and the create revision of the key."""

    def __init__(self, lock: int, candidate: int, key: str, revision: int) -> None:
        self.lock, self.candidate, self.key, self.revision = lock, candidate, key, revision


def ask(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", f"/v3/{path}", json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
    assert answer.status == 200, f"{path} {body} was answered {answer.status}: {data!r}"
    return dict(json.loads(data))


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def keys_of(port: int, prefix: str) -> list[dict[str, Any]]:
    """In the order in which they were created."""
    end = coded(prefix[:-1] + chr(ord(prefix[-1]) + 1))
    found = ask(port, "kv/range", {"key": coded(prefix), "range_end": end, "sort_target": "CREATE"})
    return list(found.get("kvs", []))


class Queues:
    """So many locks with so many candidates each, one thread for every candidate; candidate n has its lease n minutes longer
    than the first one."""

    def __init__(self, nodes: Ours, locks: int, candidates: int, name: str) -> None:
        self.nodes, self.locks, self.candidates, self.name = nodes, locks, candidates, name
        self.told: queue.SimpleQueue[Held | BaseException] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []

    def line_up(self) -> None:
        """Every candidate has asked, those of a lock in their order."""
        for candidate in range(self.candidates):
            for lock in range(self.locks):
                port = self.nodes.ports[(lock + candidate) % len(self.nodes.ports)]
                lease = ask(port, "lease/grant", {"TTL": TTL_S * (candidate + 1)})["ID"]
                thread = threading.Thread(target=self._take, args=(port, lock, candidate, lease))
                thread.start()
                self.threads.append(thread)
            wanted = self.locks * (candidate + 1)
            eventually("they are in the queues", lambda wanted=wanted: len(self.keys()) == wanted)

    def keys(self) -> list[dict[str, Any]]:
        return keys_of(self.nodes.ports[0], f"{self.name}/")

    def _take(self, port: int, lock: int, candidate: int, lease: str) -> None:
        try:
            answer = ask(port, "lock/lock", {"name": coded(f"{self.name}/{lock}"), "lease": lease})
            found = ask(port, "kv/range", {"key": answer["key"]})["kvs"][0]
            self.told.put(Held(lock, candidate, answer["key"], int(found["create_revision"])))
        except BaseException as error:
            self.told.put(error)

    def end_leases(self, left: int) -> None:
        """Returns when so many candidates are left of each lock. Should another node lead meanwhile, it gives all leases their
        whole time, so it may take a minute more than one."""
        deadline = time.monotonic() + PATIENCE_S
        pause = threading.Event()
        while time.monotonic() < deadline:
            self.nodes.pass_time(TTL_S + 1)
            for _ in range(20):
                if len(self.keys()) == self.locks * left:
                    return
                pause.wait(0.05)
        raise TimeoutError("the holders' leases did not end")

    def next_holders(self) -> Iterator[Held]:
        """One for each lock."""
        for _ in range(self.locks):
            held = self.told.get(timeout=PATIENCE_S)
            if isinstance(held, BaseException):
                raise held
            yield held


def take_and_lose(nodes: Ours, locks: int, candidates: int, name: str) -> int:
    """Has every lock taken and lost by all of its candidates; how often one was taken."""
    queues = Queues(nodes, locks, candidates, name)
    queues.line_up()
    fences = [0] * locks
    taken = 0
    for turn in range(candidates):
        for held in queues.next_holders():
            assert held.candidate == turn, "they come in the order in which they asked"
            assert held.revision > fences[held.lock], "a later holder has a higher token"
            fences[held.lock] = held.revision
            taken += 1
        assert queues.told.empty(), "nobody else holds before they are gone"
        assert len(queues.keys()) == locks * (candidates - turn)
        queues.end_leases(candidates - turn - 1)
    for thread in queues.threads:
        thread.join()
    return taken


def test_locks_are_taken_and_lost_in_order() -> None:
    with Ours(3, [], ENGINES) as nodes:
        assert take_and_lose(nodes, 4, 5, "few") == 20


@pytest.mark.slow
def test_a_thousand_locks_are_taken_and_lost_in_order() -> None:
    with Ours(3, [], ENGINES) as nodes:
        assert sum(take_and_lose(nodes, 20, 10, f"many{number}") for number in range(5)) == 1000
        assert "leases" not in ask(nodes.ports[0], "lease/leases", {})

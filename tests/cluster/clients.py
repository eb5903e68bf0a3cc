"""Clients that write, delete, read and scan, and write down what they were told. Eight threads, each until it is told to stop.

Four are raw: one connection to one node, kept open, so that each node is asked and nothing is repeated in secret. Two use
server/client.py on all nodes. Two have a session: they send a write whose outcome is unknown again, to the next node, until they
know, and now and then one that was answered long ago, as a client would whose answer was lost; in the history it is one
operation, from the first call to the first answer. What an answer means for the history:

| answer                                             | a write                   | a read           |
|----------------------------------------------------|---------------------------|------------------|
| 204 with X-Metcd-Index; 200, 404                   | done between call and end | saw this         |
| 503; no connection                                 | not done: left out        | nothing          |
| 504; the connection breaks; no answer in time      | unknown: no end           | nothing          |

A client whose node does nothing waits a moment before it asks again.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote_from_bytes

from server.client import Client
from server.errors import NodeError, OutcomeUnknown
from tests.cluster.history import UNKNOWN, Op, Recorder
from tests.cluster.keys import Keys

__all__ = ["Load", "pairs_of"]

PATIENCE_S = 3.0  # less than a node's own, so that "unknown" comes from both sides
NOTHING: Mapping[str, str] = {}
PAUSE_S = 0.02  # after an answer that nothing was done
CLIENTS, THROUGH_CLIENT_PY, WITH_SESSION = 8, 2, 2
AGAIN = 0.2  # how often a client with a session sends its last write again
CLIENT_PATIENCE_S = 10.0  # the default of server/client.py
SESSION_PATIENCE_S = 12.0  # until a write with a number is given up as unknown


def pairs_of(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The pairs of a scan's answer."""
    lines = map(json.loads, body.splitlines())
    return tuple((base64.b64decode(line["key"]), base64.b64decode(line["value"])) for line in lines)


class Unknown(Exception):
    """It may have been done."""


class Refused(Exception):
    """It has surely not been done."""


class _Raw:
    """One node, asked over one connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = NOTHING
    ) -> tuple[int, int, bytes]:
        """Status, index, body. Raises Refused, Unknown."""
        connection = self._connection
        if connection.sock is None:
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise Refused from error
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            status, index, data = answer.status, int(answer.getheader("X-Metcd-Index", "0")), answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unknown from error
        if status == 503:
            raise Refused
        if status == 504:
            raise Unknown
        return status, index, data

    def write(self, key: bytes, value: bytes | None, headers: Mapping[str, str] = NOTHING) -> int:
        method = "PUT" if value is not None else "DELETE"
        status, index, data = self.ask(method, f"/{quote_from_bytes(key)}", value, headers)
        assert status == 204, f"{method} {key!r} was answered {status}: {data!r}"
        return index

    def get(self, key: bytes) -> bytes | None:
        status, _, data = self.ask("GET", f"/{quote_from_bytes(key)}")
        assert status in (200, 404), f"GET {key!r} was answered {status}: {data!r}"
        return data if status == 200 else None

    def scan(self, prefix: bytes) -> tuple[tuple[bytes, bytes], ...]:
        status, _, data = self.ask("GET", f"/_/scan?prefix={quote_from_bytes(prefix)}")
        assert status == 200, f"a scan was answered {status}: {data!r}"
        return pairs_of(data)

    def close(self) -> None:
        self._connection.close()


class _Real:
    """All nodes, through server/client.py."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._client = Client(urls, timeout_s=CLIENT_PATIENCE_S)

    def write(self, key: bytes, value: bytes | None) -> int:
        return self._told(lambda: self._client.put(key, value) if value is not None else self._client.delete(key))

    def get(self, key: bytes) -> bytes | None:
        return self._told(lambda: self._client.get(key))

    def scan(self, prefix: bytes) -> tuple[tuple[bytes, bytes], ...]:
        return self._told(lambda: tuple(self._client.scan(prefix=prefix)))

    def _told(self, call: Callable):  # type: ignore[no-untyped-def, type-arg]
        try:
            return call()
        except OutcomeUnknown as error:
            raise Unknown from error
        except NodeError as error:
            raise Refused from error

    def close(self) -> None:
        self._client.close()


class _Session:
    """All nodes, one at a time, with a number for each write."""

    def __init__(self, urls: Sequence[str], rng: random.Random, stop: threading.Event) -> None:
        self._nodes = [_Raw(url) for url in urls]
        self._rng, self._stop = rng, stop
        self._session = self._number = 0
        self._last: tuple[bytes, bytes | None, int] | None = None

    def write(self, key: bytes, value: bytes | None) -> int:
        self._open()
        if self._last is not None and self._rng.random() < AGAIN:
            self._again(*self._last)
        self._number += 1
        self._last = None
        index = self._send(key, value)
        self._last = (key, value, index)
        return index

    def _send(self, key: bytes, value: bytes | None) -> int:
        """Until it is known. Raises Unknown after SESSION_PATIENCE_S, Refused if surely nothing was done."""
        deadline = time.monotonic() + SESSION_PATIENCE_S
        unknown = False
        while True:
            try:
                header = {"X-Metcd-Request": f"{self._session}/{self._number}"}
                return self._nodes[0].write(key, value, header)
            except (Unknown, Refused) as error:
                unknown = unknown or isinstance(error, Unknown)
                self._nodes.append(self._nodes.pop(0))
                if time.monotonic() > deadline or self._stop.wait(PAUSE_S):
                    raise Unknown if unknown else Refused from None

    def _again(self, key: bytes, value: bytes | None, index: int) -> None:
        with contextlib.suppress(Unknown, Refused):
            told = self._send(key, value)
            assert told == index, f"write {self._session}/{self._number} was done at {index}, and sent again at {told}"

    def _open(self) -> None:
        while not self._session:
            status, _, body = self._nodes[0].ask("POST", "/_/sessions", b"")
            assert status == 200, f"a session was answered {status}: {body!r}"
            self._session = json.loads(body)["session"]

    def get(self, key: bytes) -> bytes | None:
        return self._nodes[0].get(key)

    def scan(self, prefix: bytes) -> tuple[tuple[bytes, bytes], ...]:
        return self._nodes[0].scan(prefix)

    def close(self) -> None:
        for node in self._nodes:
            node.close()


Store = _Raw | _Real | _Session


class Load:
    """Eight clients at work, from `with` to its end; `recorder` has what they were told, `failures` what must not be."""

    def __init__(self, urls: dict[int, str], nodes: Sequence[int], seed: int, began: float) -> None:
        """urls: of all that may ever take part. nodes: those that do, to begin with. began: what the history's times are counted from."""
        self.recorder = Recorder()
        self.keys = Keys()
        self.failures: list[BaseException] = []
        self.in_vain: list[str] = []  # what server/client.py did not bring to an end
        self._began = began
        self._stop = threading.Event()
        self._threads = []
        for number in range(1, CLIENTS + 1):
            rng = random.Random(f"client {seed} {number}")
            order = [urls[each] for each in rng.sample(nodes, len(nodes))]
            order += [url for url in urls.values() if url not in order]
            node = nodes[number % len(nodes)]
            store: Store
            if number <= THROUGH_CLIENT_PY:
                store, node = _Real(order), 0
            elif number <= THROUGH_CLIENT_PY + WITH_SESSION:
                store, node = _Session(order, rng, self._stop), 0
            else:
                store = _Raw(urls[node])
            arguments = (number, node, store, rng)
            self._threads.append(threading.Thread(target=self._run, args=arguments, name=f"client-{number}"))

    def _run(self, number: int, node: int, store: Store, rng: random.Random) -> None:
        try:
            count = 0
            while not self._stop.is_set():
                count += 1
                self._operate(store, number, node, b"%d.%d" % (number, count), rng)
        except BaseException as error:
            self.failures.append(error)
        finally:
            store.close()

    def _operate(self, store: Store, client: int, node: int, fresh: bytes, rng: random.Random) -> None:
        """One operation, as chance has it."""
        choice = rng.random()
        called = time.monotonic() - self._began
        if choice < 0.5:
            kind, value = ("put", fresh) if choice < 0.4 else ("delete", None)
            key = self.keys.one(rng)
            try:
                index = store.write(key, value)
                op = Op(client, kind, key, value, called, time.monotonic() - self._began, index, node)
            except Unknown as error:
                self._note(store, error, kind, key)
                op = Op(client, kind, key, value, called, UNKNOWN, 0, node)
            except Refused as error:
                self._note(store, error, kind, key)
                self._stop.wait(PAUSE_S)
                return
        else:
            try:
                if choice < 0.93:
                    key = self.keys.one(rng)
                    seen = store.get(key)
                    op = Op(client, "get", key, seen, called, time.monotonic() - self._began, 0, node)
                else:
                    key = self.keys.prefix()
                    pairs = store.scan(key)
                    op = Op(client, "scan", key, None, called, time.monotonic() - self._began, 0, node, pairs)
            except (Refused, Unknown) as error:
                self._note(store, error, "read", key)
                self._stop.wait(PAUSE_S)
                return
        self.recorder.add(op)

    def _note(self, store: Store, error: Exception, kind: str, key: bytes) -> None:
        if isinstance(store, _Real) and not self._stop.is_set():
            self.in_vain.append(f"{kind} {key!r}: {error.__cause__!r}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Returns when every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __exit__(self, *_: object) -> None:
        self.stop()

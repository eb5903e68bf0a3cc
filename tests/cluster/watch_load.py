"""Clients of /v3/watch, two at each node, beside the others of a round (clients.py): one of all keys from the first revision on, one
of a range from the present on. When its stream breaks, a client goes on at the revision after the last that it has seen, at
the same node if that answers, else at the next one.

    start ─ {"created": true, revision 7} ─ events of 8, 9, 10 ─ the node is killed ─ again, start_revision 11 ─ events of 11 …

`judge` is told all changes of the store, in their order, as an engine has them after the round. Each client has to have seen those of
its range from its first revision on, each once, in that order, with the same content, and those of one revision in one message. An
event that was lost, doubled, reordered or divided fails the round. So that the end is known, a key is written at last that every
range has.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from server.body import ChunkedBody
from server.mvcc import Change
from tests.cluster.processes import Failed, until
from tests.cluster.store_history import changes_of

__all__ = ["Event", "WatchLoad", "differences", "events_of"]

TURN_S = 0.25  # until a client that waits for events looks whether it has to stop
PAUSE_S = 0.05
CONNECT_S = 1.0
SERVES_S = 5.0  # for the last change, after the healing
SEEN_S = 30.0
END = b"watched/end"
RANGES = ((b"\0", b"\0"), (b"g", b"x"))  # every key; those of the clients, and END


class Event(NamedTuple):
    """A change, as a client sees it."""

    main: int
    deleted: bool
    key: bytes
    value: bytes
    create: int
    version: int


def events_of(changes: Iterable[Change], start: bytes, stop: bytes) -> list[Event]:
    """What a client of a range is to see of these changes."""
    return [
        Event(main, deleted, record.key, record.value, record.create, record.version)
        for main, _, deleted, record, _ in changes
        if record.key >= start and (stop == b"\0" or record.key < stop)
    ]


def differences(seen: Sequence[Event], wanted: Sequence[Event]) -> str:
    """What is wrong with what a client has seen, in a sentence; "" if nothing is."""
    for at, (one, other) in enumerate(zip(seen, wanted)):
        if one != other:
            what = (
                "saw again or too late" if one in wanted[:at] else "missed" if one in wanted else "saw what never was"
            )
            return f"event {at}: {what}: {one} in place of {other}"
    if len(seen) < len(wanted):
        return f"{len(wanted) - len(seen)} events are missing at the end, the first of them {wanted[len(seen)]}"
    if len(seen) > len(wanted):
        return f"{len(seen) - len(wanted)} events too many, the first of them {seen[len(wanted)]}"
    return ""


class _Watch:
    """One client."""

    def __init__(self, name: str, urls: Sequence[str], start: bytes, stop: bytes, first: int) -> None:
        self.name = name
        self.start, self.stop = start, stop
        self.first = first  # its first revision; 0: not known yet
        self.seen: list[Event] = []
        self.streams = 0  # that it has opened
        self._urls = list(urls)

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            try:
                self._watch(self._urls[0].removeprefix("http://"), over)
            except (OSError, ValueError):
                self._urls.append(self._urls.pop(0))
            over.wait(PAUSE_S)

    def _watch(self, address: str, over: threading.Event) -> None:
        """One stream, until it breaks. Raises OSError, ValueError."""
        next_revision = self.seen[-1].main + 1 if self.seen else self.first
        asked = {"key": _coded(self.start), "range_end": _coded(self.stop), "start_revision": next_revision}
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=CONNECT_S) as connection:
            body = json.dumps({"create_request": asked}).encode()
            connection.sendall(
                b"POST /v3/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            connection.settimeout(TURN_S)
            head, chunks, line = b"", ChunkedBody(), b""
            while not over.is_set() and not chunks.over:
                try:
                    data = connection.recv(1 << 16)
                except TimeoutError:  # a node that stands still for a while goes on where it was
                    continue
                if not data:
                    return
                if not head.endswith(b"\r\n\r\n"):
                    head, end, data = (head + data).partition(b"\r\n\r\n")
                    head += end
                    if not end:
                        continue
                    if not head.startswith(b"HTTP/1.1 200"):
                        return
                    self.streams += 1
                *lines, line = (line + chunks.feed(data)).split(b"\n")
                for each in lines:
                    self._heard(json.loads(each))

    def _heard(self, message: dict[str, Any]) -> None:
        result = message.get("result")
        if result is None:
            return  # the stream ends with an error
        if result.get("canceled"):
            raise AssertionError(f"{self.name} was cancelled: {message}")
        if result.get("created") and not self.first:
            self.first = int(result["header"]["revision"]) + 1
        events = [_event(each) for each in result.get("events", ())]
        if events and self.seen and events[0].main <= self.seen[-1].main:
            raise AssertionError(f"{self.name}: revision {self.seen[-1].main} was followed by {events[0]}")
        self.seen += events


def _event(each: dict[str, Any]) -> Event:
    kv = each["kv"]
    return Event(
        int(kv["mod_revision"]),
        each.get("type") == "DELETE",
        b64decode(kv["key"]),
        b64decode(kv.get("value", "")),
        int(kv.get("create_revision", 0)),
        int(kv.get("version", 0)),
    )


def _coded(data: bytes) -> str:
    return b64encode(data).decode()


class WatchLoad:
    """The clients of one round, as rounds.py has them beside the others; `failures` has what must not be."""

    def __init__(self, urls: Mapping[int, str], everybody: Mapping[int, str]) -> None:
        """urls: of the nodes that take part, to begin with. everybody: and of those that may replace them."""
        self.failures: list[BaseException] = []
        self._urls = list(everybody.values())
        self._over = threading.Event()
        self._end = 0  # the revision that all have seen at last
        self.clients = []
        for node, url in urls.items():
            others = [each for each in everybody.values() if each != url]
            for at, (start, stop) in enumerate(RANGES):
                name = f"the watch of {start!r} that began at node {node}"
                self.clients.append(_Watch(name, [url, *others], start, stop, 1 if at == 0 else 0))
        self._threads = [
            threading.Thread(target=self._run, args=(client,), name=f"client-watch-{at}")
            for at, client in enumerate(self.clients)
        ]

    def _run(self, client: _Watch) -> None:
        try:
            client.run(self._over)
        except BaseException as error:
            self.failures.append(error)

    def start(self) -> None:
        """All begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Makes one more change, which every range has, and ends when all have seen it, or can't."""
        with contextlib.suppress(Failed):
            self._end = until("a node takes the last change", self._write_end, SERVES_S)
            until("all watches have seen it", lambda: self.failures or not self._slow(), SEEN_S)
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write_end(self) -> int:
        body = json.dumps({"key": _coded(END), "value": _coded(b"1")}).encode()
        for url in self._urls:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v3/kv/put", body, SERVES_S) as answer:
                return int(json.load(answer)["header"]["revision"])
        return 0

    def _slow(self) -> list[str]:
        return [each.name for each in self.clients if not each.seen or each.seen[-1].main < self._end]

    def judge(self, urls: Mapping[int, str]) -> str:
        """What is wrong with what they have seen; "" if nothing is."""
        if not self._end or self._slow():
            return f"watches: revision {self._end} of the end was not seen by {', '.join(self._slow())}"
        changes = [change for change in changes_of(urls[min(urls)]) if change.main <= self._end]
        for client in self.clients:
            seen = [event for event in client.seen if event.main <= self._end]
            wanted = events_of((change for change in changes if change.main >= client.first), client.start, client.stop)
            wrong = differences(seen, wanted)
            if wrong:
                return f"{client.name}, after {client.streams} streams: {wrong}"
        return ""

    def save(self, directory: Path) -> None:
        """What each has seen, as files."""
        for at, client in enumerate(self.clients):
            lines = (f"{client.name}, from {client.first}\n", *(f"{event}\n" for event in client.seen))
            (directory / f"watch-{at}.txt").write_text("".join(lines))

    def __str__(self) -> str:
        events = sum(len(client.seen) for client in self.clients)
        streams = sum(client.streams for client in self.clients)
        return f"{len(self.clients)} watches saw {events:,} events on {streams} streams"

"""What a node's threads note for those who watch it, between two frames of the feed.

    the node's thread      sent, received, dropped, persisted, applied, event ─┐
    clients' connections   answered ───────────────────────────────────────────┼─▶ Interval, bounded ── take ──▶ server/feed.py
    the storage's jobs     event ──────────────────────────────────────────────┘

A part of the node that has something to tell has an attribute `taps`. It is None while nobody watches, and then a part pays
one look at it for a batch of messages, a Ready or an answer. Nothing is kept for those who come later. An answer is too small
a thing to be told of each time: the front end's `taps` is None, too, as soon as an Interval has enough of them.

Invariants:

1. A tap never blocks, never raises, and keeps references only: what they look like is the feed's business, in its thread.
2. Everything is bounded: lists by the numbers below, counters by members and types of messages.
3. An Interval is written by many threads and read by the feed's after `take`. Who still has the old one may add to it a
   moment too late: a message that is lost so is no matter, there are many. Requests and events are never lost, but for
   those beyond the numbers below.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from raft.raftpb import Entry, Message

__all__ = ["EVENTS_MAX", "MESSAGES_MAX", "REQUESTS_MAX", "Asked", "Interval", "Span", "Tapped", "Taps"]

MESSAGES_MAX = 40  # of those that were sent, and of those that were received
REQUESTS_MAX = 20
EVENTS_MAX = 100
# what a page asks for itself is no request that people want to see
OWN_PATHS = (b"/_/page", b"/_/feed", b"/_/describe", b"/_/explain", b"/_/bytes")
SPANS_MAX = 512  # Readies and batches that an answer looks for its entry in


class Asked(NamedTuple):
    """A request that was answered: headers are those of the answer, which may say an index; `at` is the answer's moment."""

    method: bytes
    target: bytes
    status: int
    seconds: float
    headers: bytes
    at: float


class Span(NamedTuple):
    """Entries `first` to `last`, and when what was done with them began and ended."""

    first: int
    last: int
    begun: float
    ended: float


class Interval:
    """What was noted since the last `take`."""

    __slots__ = ("asked", "dropped", "events", "received", "received_types", "sent", "sent_types")

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.received: list[Message] = []
        self.sent_types: Counter[tuple[Any, int]] = Counter()  # by type and receiver
        self.received_types: Counter[tuple[Any, int]] = Counter()  # by type and sender
        self.dropped = 0
        self.asked: list[Asked] = []
        self.events: list[list[Any]] = []


class Taps:
    """The taps of one node while somebody watches. For any thread."""

    def __init__(self, asking: Tapped) -> None:
        """asking: who tells of requests; it is told to stop when there are enough of them, and asked again by `take`."""
        self._asking = asking
        self._interval = Interval()
        self._asked: deque[Asked] = deque(maxlen=REQUESTS_MAX)  # not in the Interval: of these none must be lost
        self._events: deque[list[Any]] = deque(maxlen=EVENTS_MAX)
        self.persisting: deque[Span] = deque(maxlen=SPANS_MAX)
        self.applying: deque[Span] = deque(maxlen=SPANS_MAX)

    def take(self) -> Interval:
        """What was noted since the last call; a new Interval begins. For the feed's thread."""
        taken, self._interval = self._interval, Interval()
        taken.asked = [self._asked.popleft() for _ in range(len(self._asked))]
        taken.events = [self._events.popleft() for _ in range(len(self._events))]
        self._asking.taps = self
        return taken

    def sent(self, messages: Sequence[Message]) -> None:
        """Messages were handed to the transport."""
        interval = self._interval
        for message in messages:
            interval.sent_types[message.type, message.to] += 1
        if (room := MESSAGES_MAX - len(interval.sent)) > 0:
            interval.sent += messages[:room]

    def received(self, messages: Sequence[Message]) -> None:
        """Messages of a peer were stepped into Raft."""
        interval = self._interval
        for message in messages:
            interval.received_types[message.type, message.from_] += 1
        if (room := MESSAGES_MAX - len(interval.received)) > 0:
            interval.received += messages[:room]

    def dropped(self, count: int) -> None:
        """So many messages surely were not sent."""
        self._interval.dropped += count

    def persisted(self, entries: Sequence[Entry], begun: float, ended: float) -> None:
        """Entries of a Ready are on disk."""
        self.persisting.append(Span(entries[0].index, entries[-1].index, begun, ended))

    def applied(self, entries: Sequence[Entry], begun: float, ended: float) -> None:
        """Committed entries are in the engine."""
        self.applying.append(Span(entries[0].index, entries[-1].index, begun, ended))

    def answered(self, method: bytes, target: bytes, status: int, seconds: float, headers: bytes) -> None:
        """A request was answered, `seconds` after it was there whole. Once REQUESTS_MAX were, no more are asked for."""
        asked = self._asked
        if not target.startswith(OWN_PATHS):
            asked.append(Asked(method, target, status, seconds, headers, time.monotonic()))
        if len(asked) >= REQUESTS_MAX:
            self._asking.taps = None

    def event(self, kind: str, *words: Any) -> None:
        """Something happened that people want to see; words are ready for JSON."""
        self._events.append([kind, *words])


class Tapped(Protocol):
    """A part of a node that tells viewers something."""

    taps: Taps | None

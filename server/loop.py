"""The fast form of the inbox: the node's thread waits for sockets, too, so that a request changes no thread at all.

    clients' sockets ─────┐                             handler: recv, parse, propose ─┐ put
    peers' streams ───────┼─▶ epoll ─▶ wait ─▶ each is handled in the node's thread ───┤       ┌──────────┐
    other threads' events ┘                                                            └─────▶ │ events   │ ─▶ the node
      (an eventfd wakes it)  ── put ─────────────────────────────────────────────────────────▶ └──────────┘

In the plain form a PUT wakes six threads one after the other: a connection's, the node's and a sender's on the leader, a
receiver's, the node's and a sender's on a follower, and the same way back; each is a lock handed over and, while others
want the interpreter, a wait for it. Here the same calls are made by one thread. What that buys stands in server/loop_clients.py
and in ARCHITECTURE.md ("Where a PUT's time goes").

Invariants:

1. Handlers never block: their sockets are nonblocking or are asked only when epoll says that they are ready. What may
   take its time is handed to a thread of the plain form.
2. A turn is bounded: EVENTS_MAX sockets, each with one recv, and the calls that were there when it began. So clients can't
   keep the node from its ticks.
3. Only the thread that calls `wait` watches sockets, and only it is called by them. A socket is watched by its handler
   until `unwatch`, or until its owner closes it after that.
4. While the thread is away (`stalled`), nobody who has just come waits for it: what tells of the node still answers.
5. A handler that fails is a bug of ours: it is logged, the socket isn't watched any more, and the node goes on.

Left out: systems without epoll; there the plain form runs. Follows redis's ae.c: sockets first, then what waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable

from engines.env import plain_everywhere
from server.inbox import Event, Inbox
from server.logs import logger

__all__ = ["READABLE", "WRITABLE", "Loop", "new_inbox"]

EVENTS_MAX = 256
SWEEP_S = 0.05  # how late a deadline of a socket may be noticed
STALLED_S = 0.2  # a turn takes less, unless the disk doesn't answer

READABLE = 1  # EPOLLIN and EPOLLOUT: the same numbers everywhere that has them
WRITABLE = 4


def new_inbox() -> Inbox:
    """The node's inbox: with sockets in it, unless METCD_PLAIN is set or the system has no epoll."""
    return Inbox() if plain_everywhere() or not hasattr(select, "epoll") else Loop()


class Loop(Inbox):
    """An inbox that is also the loop around the sockets of its owner. `put` and `call` are for any thread."""

    def __init__(self) -> None:
        self._arrived: deque[Event] = deque()
        self._calls: deque[Callable[[], object]] = deque()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._sweepers: list[Callable[[float], object]] = []
        self._closers: list[Callable[[], object]] = []
        self._swept_at = 0.0
        self._asleep = False
        self._turned_at = time.monotonic()
        self.closed = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, READABLE)

    # ---- for any thread ------------------------------------------------------------------------------------------

    def put(self, event: Event) -> None:
        self._arrived.append(event)
        if self._asleep:
            self._awake()

    def call(self, function: Callable[[], object]) -> bool:
        """Has a function called in the loop's thread; False if the loop has ended, and it won't be. O(1)."""
        if self.closed:
            return False
        self._calls.append(function)
        if self._asleep:
            self._awake()
        if self.closed:  # it may have ended between the two, without having seen it
            return not self.take_back(function)
        return True

    def waiting(self) -> int:
        return len(self._arrived)

    def take_back(self, function: Callable[[], object]) -> bool:
        """Has a function not called after all; False if it was called, or is being called."""
        try:
            self._calls.remove(function)
        except ValueError:
            return False
        return True

    def stalled(self) -> bool:
        """Whether the loop's thread has been away for STALLED_S: at a disk that doesn't answer, or it has not begun yet."""
        return not self._asleep and time.monotonic() - self._turned_at > STALLED_S

    def _awake(self) -> None:
        self._asleep = False
        with contextlib.suppress(OSError):  # it was closed meanwhile
            os.eventfd_write(self._wake, 1)

    # ---- for the loop's thread -----------------------------------------------------------------------------------

    def watch(self, descriptor: int, handler: Callable[[int], object], events: int = READABLE) -> None:
        """Has `handler` called, with what has happened, whenever the descriptor is ready for `events`."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def change(self, descriptor: int, events: int) -> None:
        """A watched descriptor is watched for these events from here on."""
        self._epoll.modify(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Forgets a watched descriptor, which is still open; nothing to do if its handler has failed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at_sweep(self, sweeper: Callable[[float], object]) -> None:
        """Has `sweeper` called with the time every SWEEP_S or so, to look for deadlines that have passed."""
        self._sweepers.append(sweeper)

    def at_close(self, closer: Callable[[], object]) -> None:
        """Has `closer` called when the loop ends: it must find another place for its sockets."""
        self._closers.append(closer)

    def not_at_close(self, closer: Callable[[], object]) -> None:
        """Forgets what `at_close` was told."""
        self._closers.remove(closer)

    def wait(self, timeout_s: float) -> list[Event]:
        """Waits until a socket, a call or an event is there, handles sockets and calls, and returns the events."""
        self._asleep = True
        if self._arrived or self._calls or timeout_s < 0:
            timeout_s = 0
        handlers = self._handlers
        ready = self._epoll.poll(min(timeout_s, SWEEP_S), EVENTS_MAX)
        self._asleep = False
        for descriptor, events in ready:
            handler = handlers.get(descriptor)
            if handler is not None:
                try:
                    handler(events)
                except Exception:
                    self._failed(descriptor)
            elif descriptor == self._wake:
                os.eventfd_read(self._wake)
        for _ in range(len(self._calls)):
            try:
                call = self._calls.popleft()
            except IndexError:  # another thread took it back meanwhile
                break
            try:
                call()
            except Exception:
                logger("loop").exception("a call in the node's loop failed")
        self._turned_at = now = time.monotonic()
        if now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            for sweeper in self._sweepers:
                sweeper(now)
        return self.drain()

    def _failed(self, descriptor: int) -> None:
        logger("loop").exception("the handler of a socket failed")
        self.unwatch(descriptor)

    def drain(self) -> list[Event]:
        arrived = self._arrived
        return [arrived.popleft() for _ in range(len(arrived))]

    def close(self) -> None:
        """Ends the loop: every socket finds another place or is closed by its owner. Twice is fine."""
        if self.closed:
            return
        self.closed = True
        for closer in list(self._closers):
            closer()
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        self._epoll.close()

    def __del__(self) -> None:
        # Not in `close`: a thread that is about to wake the loop would write to whoever has the number by then.
        os.close(self._wake)

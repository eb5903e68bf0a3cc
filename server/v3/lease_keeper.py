"""When leases expire: the leader's deadlines, which are in its memory only, and what it proposes when one has passed.

    granted, kept alive ──▶ deadline = now + TTL ──▶ passed? ──▶ an expiry is proposed, at most EXPIRIES_PER_S ──▶ … applied
    leads, in a new term ─▶ every lease's deadline = now + election timeout + TTL
    leads no more ────────▶ no deadlines

Invariants:

1. Only a leader has deadlines. A new one doesn't know when the leases were kept alive last, and gives each its whole time;
   and an election timeout more, for so long the old one may have gone on answering.
2. A lease that has expired isn't kept alive any more: who asks waits until it is gone, or until another node leads. So
   nobody is told that a lease lives whose expiry is in the log.
3. What expires is decided in a term, and nowhere else applied (server/v3/leases.py). So a leader that was stopped, or cut
   off, may decide what it likes.
4. A lease has its whole time from the moment in which it is granted or kept alive, not from the tick before that.
5. Time in which the node's thread stood still counts for STEP_MAX_S at most: who wanted to keep a lease alive then had
   nobody to ask, or still waits to be heard. So a leader that was stopped for a minute and leads on expires nothing that
   was alive when it was stopped.
6. Expiries are paced, as etcd's: 1,000 a second, and no more than EXPIRIES_MAX under way, so that a hundred thousand leases
   that end at once leave room for writes. One that got lost is proposed again.

The clock is handed in: seconds of any that doesn't go back. For the node's thread, which applies, too. Follows etcd's
server/lease/lessor.go and lease_queue.go.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from server.v3.leases import Granted, Leases

__all__ = ["EXPIRIES_MAX", "EXPIRIES_PER_S", "RETRY_S", "STEP_MAX_S", "LeaseKeeper"]

STEP_MAX_S = 0.5
EXPIRIES_PER_S = 1000
EXPIRIES_MAX = 500  # proposed, and not applied yet
RETRY_S = 3.0  # until an expiry that was proposed and isn't applied is proposed again
RENEWALS_WAITING_MAX = 10_000  # of leases that have expired and aren't gone

Renewed = Callable[[int | None], object]


class LeaseKeeper:
    """One node's deadlines, while it leads."""

    def __init__(
        self, leases: Leases, expire: Callable[[int, int, int], object], election_s: float, now: Callable[[], float]
    ) -> None:
        """expire: proposes that a lease has expired: which, granted by which entry, and in which term that was decided.
        election_s: the election timeout. now: the clock that `tick` is told of."""
        self._leases = leases
        self._expire = expire
        self._election_s = election_s
        self._now = now
        self._term = 0  # in which this node leads; 0 if it doesn't
        self._other_table = False
        self._seen: float | None = None  # the clock, when it was last looked at
        self._time = 0.0  # counted from there: seconds in which somebody could have kept leases alive
        self._deadlines: dict[int, float] = {}
        self._queue: list[tuple[float, int]] = []  # a heap; what isn't in `_deadlines` any more is passed over
        self._proposed: dict[int, float] = {}  # expiries under way, and since when
        self._allowance = 0.0  # expiries that may be proposed now
        self._waiting: dict[int, list[Renewed]] = {}  # who wants to keep a lease alive that has expired
        self._waiting_count = 0
        self.expired = 0  # expiries that were proposed
        leases.on_change = self._changed
        leases.on_read = self._reread

    @property
    def leads(self) -> bool:
        """Whether this node keeps the leases."""
        return self._term != 0

    def tick(self, now: float, term: int) -> None:
        """Time passes. term: in which this node leads, 0 if it doesn't. O(log n) for each lease that expires."""
        step = 0.0 if self._seen is None else now - self._seen
        self._seen = now
        if term != self._term or self._other_table:
            self._other_table = False
            self._lead(term)
        elif term:
            self.count(min(step, STEP_MAX_S))

    def count(self, seconds: float) -> None:
        """So many seconds have passed in which leases could be kept alive; tests count hours in a moment."""
        self._time += seconds
        self._allowance = min(self._allowance + EXPIRIES_PER_S * seconds, EXPIRIES_MAX)
        for lease, since in list(self._proposed.items()):
            if self._time - since < RETRY_S:
                break  # in the order in which they were proposed
            del self._proposed[lease]
            heapq.heappush(self._queue, (self._deadlines[lease], lease))
        while self._queue and self._queue[0][0] <= self._time:
            if self._allowance < 1 or len(self._proposed) >= EXPIRIES_MAX:
                break
            deadline, lease = heapq.heappop(self._queue)
            if self._deadlines.get(lease) == deadline and lease not in self._proposed:
                self._allowance -= 1
                self._proposed[lease] = self._time
                self.expired += 1
                self._expire(lease, self._granted(lease).entry, self._term)

    def in_order(self) -> list[int]:
        """All leases: those that expire first come first, or where this node doesn't lead, those that were granted first. For
        any thread. O(n log n)."""
        deadlines, table = self._deadlines.copy(), self._leases.all()
        return sorted(table, key=lambda lease: (deadlines.get(lease, 0.0), table[lease].entry))

    def remaining(self, lease: int) -> int | None:
        """Whole seconds until a lease expires, 0 if it has; None if there is none. Requires: this node leads."""
        deadline = self._deadlines.get(lease)
        return None if deadline is None else max(0, int(deadline - self._time))

    def renew(self, lease: int, renewed: Renewed) -> None:
        """Keeps a lease alive: `renewed` is called with its TTL, 0 if there is none, or None if this node doesn't lead.

        At once, or when a lease that has expired is gone. Requires: what was acknowledged before is applied here. O(log n).
        """
        if not self._term:
            renewed(None)
            return
        deadline = self._deadlines.get(lease)
        if deadline is None:
            renewed(0)
        elif deadline > self._time:
            ttl = self._granted(lease).ttl
            self._set(lease, ttl)
            renewed(ttl)
        elif self._waiting_count < RENEWALS_WAITING_MAX:
            self._waiting.setdefault(lease, []).append(renewed)
            self._waiting_count += 1
        else:
            renewed(None)

    def _granted(self, lease: int) -> Granted:
        granted = self._leases.granted(lease)
        assert granted is not None  # what has a deadline is in the table: both change in the node's thread
        return granted

    def _set(self, lease: int, seconds: float) -> None:
        """Has a lease's time begin now. That is later than the last tick, and the next one counts all since then."""
        not_counted = 0.0 if self._seen is None else min(self._now() - self._seen, STEP_MAX_S)
        deadline = self._time + not_counted + seconds
        self._deadlines[lease] = deadline
        heapq.heappush(self._queue, (deadline, lease))
        if len(self._queue) > 2 * len(self._deadlines) + 64:  # renewals leave their old deadlines in the heap
            self._queue = [(at, each) for each, at in self._deadlines.items() if each not in self._proposed]
            heapq.heapify(self._queue)

    def _lead(self, term: int) -> None:
        """This node leads in a term that has begun, or leads no more."""
        self._term = term
        self._deadlines.clear()
        self._queue.clear()
        self._proposed.clear()
        self._allowance = 0.0
        if term:
            for lease in self._leases.ids():
                self._set(lease, self._granted(lease).ttl + self._election_s)
        self._tell_all(None)

    def _changed(self, changed: dict[int, Granted | None]) -> None:
        """These leases were granted (again, if there was one of that id), or are gone."""
        for lease, granted in changed.items():
            self._proposed.pop(lease, None)
            self._deadlines.pop(lease, None)
            waiting = self._waiting.pop(lease, [])
            self._waiting_count -= len(waiting)
            for renewed in waiting:
                renewed(0)
            if granted is not None and self._term:
                self._set(lease, granted.ttl)

    def _reread(self) -> None:
        """The table is another one: a snapshot was installed. That happens in a job, and to no leader."""
        self._other_table = True

    def _tell_all(self, outcome: int | None) -> None:
        waiting, self._waiting, self._waiting_count = self._waiting, {}, 0
        for each in waiting.values():
            for renewed in each:
                renewed(outcome)

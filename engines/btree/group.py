"""Group commit: writers who wait for each other share one transaction, and its pair of fsyncs.

    thread 1   submit ──────[ lock ── commit 1 ──────────── unlock ]
    thread 2     submit ─────────────── waits ──────────────[ lock ── commit 2 + 3 + 4 ── unlock ]
    thread 3       submit ───────────── waits ─────────────────────────────────────────────── [ lock: done already ]
    thread 4         submit ─────────── waits ─────────────────────────────────────────────────────── [ lock: done ]

Whoever gets the lock takes all that is in the queue; whoever gets it after that finds its write done and goes. Writes are
committed in the order in which they were submitted.

A write that is refused (StoreError) must not spoil others: then each is committed on its own. Any other failure is
everybody's: the store is poisoned by then.

Follows LevelDB's DBImpl::Write; bbolt has it as DB.Batch, with a delay of 10 ms that this does without.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from engines.errors import StoreError, StoreFailed
from engines.kvstore import WriteBatch
from engines.lifetime import holding

__all__ = ["GroupCommit", "Waiter"]


class Waiter:
    """A write that waits for its commit."""

    __slots__ = ("batch", "done", "failure", "sync")

    def __init__(self, batch: WriteBatch, sync: bool) -> None:
        self.batch = batch
        self.sync = sync
        self.done = False
        self.failure: BaseException | None = None


class GroupCommit:
    """The queue of waiting writes and the write lock.

    `commit` makes one transaction of the writes it is given; it isn't kept, because the store that it belongs to would
    then be in a cycle, and not be gone with its last reference.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._queue: deque[Waiter] = deque()

    def submit(self, waiter: Waiter, commit: Callable[[list[Waiter]], None]) -> None:
        """Returns when the write is committed. Raises what its commit raised."""
        try:
            self._queue.append(waiter)
            holding(self.lock, self._lead, waiter, commit)
        except BaseException:
            with suppress(ValueError):  # interrupted before anybody took it
                self._queue.remove(waiter)
            raise
        if waiter.failure is not None:
            raise waiter.failure

    def _lead(self, waiter: Waiter, commit: Callable[[list[Waiter]], None]) -> None:
        """Commits what waits, unless the waiter is done. Requires: the lock."""
        if waiter.done:
            return
        if waiter not in self._queue:
            raise StoreFailed(
                "the write was taken together with one that was interrupted: whether it is there is unknown"
            )
        waiters: list[Waiter] = []
        try:
            while self._queue:
                waiters.append(self._queue.popleft())
            commit(waiters)
        except StoreError as refusal:
            if len(waiters) == 1:
                waiters[0].failure = refusal
            else:
                for waiter in waiters:
                    self._commit_alone(waiter, commit)
        except Exception as failure:
            for waiter in waiters:
                waiter.failure = failure
        except BaseException as interrupt:  # this thread's; the others are told
            for waiter in waiters:
                waiter.failure = StoreFailed("the write was taken together with one that was interrupted")
                waiter.failure.__cause__ = interrupt
            raise
        finally:
            for waiter in waiters:
                waiter.done = True

    def _commit_alone(self, waiter: Waiter, commit: Callable[[list[Waiter]], None]) -> None:
        try:
            commit([waiter])
        except Exception as failure:
            waiter.failure = failure

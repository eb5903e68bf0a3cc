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

from engines.errors import StoreError
from engines.kvstore import WriteBatch

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
        self._queue.append(waiter)
        with self.lock:
            if not waiter.done:
                self._commit_waiting(commit)
        if waiter.failure is not None:
            raise waiter.failure

    def _commit_waiting(self, commit: Callable[[list[Waiter]], None]) -> None:
        waiters: list[Waiter] = []
        while self._queue:
            waiters.append(self._queue.popleft())
        try:
            commit(waiters)
        except StoreError as refusal:
            if len(waiters) == 1:
                waiters[0].failure = refusal
            else:
                for waiter in waiters:
                    self._commit_alone(waiter, commit)
        except BaseException as failure:
            for waiter in waiters:
                waiter.failure = failure
            if not isinstance(failure, Exception):
                raise
        finally:
            for waiter in waiters:
                waiter.done = True

    def _commit_alone(self, waiter: Waiter, commit: Callable[[list[Waiter]], None]) -> None:
        try:
            commit([waiter])
        except Exception as failure:
            waiter.failure = failure

"""Group commit: writers who wait for each other share one commit, and its fsyncs.

    thread 1   submit ──[ lock ── commit of 1 ─────── unlock ]
    thread 2     submit ─────────── waits ───────────────────[ lock ── commit of 2, 3 and 4 ── unlock ]
    thread 3       submit ───────── waits ──────────────────────────────────────────────────────[ lock: done already ]
    thread 4         submit ─────── waits ──────────────────────────────────────────────────────────[ lock: done ]

An fsync takes as long for four batches as for one. So a writer first enters its batch in a queue, and then takes the
lock. Who gets the lock *leads*: it takes the first batches of the queue and commits them together, again and again
until its own is among them. Who gets the lock later may find its batch done, and returns.

1. Batches are committed in the order in which they were submitted.
2. The leader marks a waiter as done when the outcome of its batch is known, and never before.
3. A batch that the store refuses (StoreError: nothing was written) must not spoil the others of its group: then each is
   committed alone. Any other failure is the failure of the whole group, and each of its writers raises it.
4. A leader that is interrupted (Ctrl-C) leaves its group neither in the queue nor done. So its writers know that nobody
   knows whether their batches were written, and say so.

A group is limited in size, so that a small batch doesn't wait for megabytes of others.

Follows LevelDB's DBImpl::Write and BuildBatchGroup (db/db_impl.cc), with a lock in place of its condition variables.
bbolt has group commit as DB.Batch, where a batch waits up to 10 ms for others; this waits for nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from engines.errors import StoreError, StoreFailed
from engines.kvstore import WriteBatch

__all__ = ["Commit", "GroupCommit", "Waiter"]


class Waiter:
    """A batch in the queue, and what became of it: `failure` is None if it was committed. See rule 2 for `done`."""

    __slots__ = ("batch", "done", "failure", "sync")

    def __init__(self, batch: WriteBatch, sync: bool) -> None:
        self.batch = batch
        self.sync = sync
        self.done = False
        self.failure: Exception | None = None


Commit = Callable[[list[Waiter]], None]  # makes one commit of a group; synced, if one of its writers asks for it


class GroupCommit:
    """The queue of batches that wait, oldest first, and the lock of the writer.

    max_bytes: of a group; None: it takes all that wait. small_bytes: a leader with a batch of at most this size takes
    at most as much of others besides. The first batch of a group is taken whatever its size.
    """

    def __init__(self, max_bytes: int | None = None, small_bytes: int = 0) -> None:
        self.lock = threading.Lock()
        self.waiting: deque[Waiter] = deque()
        self._max_bytes = max_bytes
        self._small_bytes = small_bytes

    def submit(self, batch: WriteBatch, sync: bool, commit: Commit) -> None:
        """Returns when the batch is committed. Raises what its commit raised, StoreFailed in the case of rule 4.

        `commit` is handed in with each call and not kept: it is a method of the store that keeps this object, and with
        a cycle of references the store would not be closed with the last reference to it.
        """
        waiter = Waiter(batch, sync)
        try:
            self.waiting.append(waiter)
            with self.lock: self._lead(waiter, commit)  # fmt: skip  # noqa: E701  (lifetime.py says why in one line)
        except BaseException:
            with suppress(ValueError):  # interrupted while it waited: nobody is to take it
                self.waiting.remove(waiter)
            raise
        if waiter.failure is not None:
            raise waiter.failure

    def _lead(self, own: Waiter, commit: Commit) -> None:
        """Commits groups until `own` is done, which it may be already. Requires: the lock."""
        while not own.done:
            if own not in self.waiting:
                raise StoreFailed("the write was taken together with one that was interrupted: its outcome is unknown")
            self._commit(self.take(), commit)

    def leave_to_parent(self) -> None:
        """In the child of a fork, whose threads are not there: nobody gives up the lock, or takes what waits."""
        self.lock = threading.Lock()
        self.waiting.clear()

    def take(self) -> list[Waiter]:
        """Takes the next group from the queue. Requires: the lock, and a batch that waits."""
        group = [self.waiting.popleft()]
        if not self.waiting:
            return group
        size_bytes = group[0].batch.size_bytes
        limit = self._max_bytes
        if limit is not None and size_bytes <= self._small_bytes:
            limit = size_bytes + self._small_bytes
        with suppress(IndexError):  # a writer that is interrupted may take its batch out of the queue meanwhile
            while self.waiting and (limit is None or size_bytes + self.waiting[0].batch.size_bytes <= limit):
                group.append(self.waiting.popleft())
                size_bytes += group[-1].batch.size_bytes
        return group

    def _commit(self, group: list[Waiter], commit: Commit) -> None:
        failure: Exception | None = None
        try:
            commit(group)
        except StoreError as refusal:
            if len(group) > 1:
                for waiter in group:
                    self._commit([waiter], commit)
                return
            failure = refusal
        except Exception as error:
            failure = error
        for waiter in group:
            waiter.failure = failure
            waiter.done = True

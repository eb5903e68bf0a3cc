"""A store in memory with revisions, for tests of watches: what is written is told by hand, and calls wait for their turn."""

import contextlib
from collections import deque

from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from server.mvcc import View, Writes, state_of

__all__ = ["World", "entry_of"]


class World:
    """`all`: every change that was ever made. `calls`: what the streams' thread would do."""

    def __init__(self):
        self.store = MemoryStore()
        self.calls = deque()
        self.all = []
        self.state = None
        self.write(lambda writes: writes.begin_revisions())

    def close(self):
        self.store.close()

    @contextlib.contextmanager
    def views(self):
        with self.store.snapshot() as snapshot:
            yield View(snapshot)

    def revision(self):
        return self.state.revision

    def write(self, *entries):
        """Applies entries in one batch; their changes."""
        batch = WriteBatch()
        writes = Writes(self.store, self.state, batch)
        for entry in entries:
            writes.begin()
            entry(writes)
        writes.end()
        self.store.write(batch)
        self.state = state_of(self.store)
        self.all += writes.changes_made
        return writes.changes_made

    def turn(self):
        if self.calls:
            self.calls.popleft()()

    def drain(self):
        while self.calls:
            self.turn()


def entry_of(operations):
    """An entry that puts, and deletes for None."""

    def entry(writes):
        for key, value in operations:
            if value is None:
                writes.delete(key)
            else:
                writes.put(key, value)

    return entry

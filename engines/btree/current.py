"""The current state: the tree that readers begin with, and that each commit replaces as a whole.

    committer    writes pages, writes the meta, then   current.state = State(...)      one assignment
    reader       state = current.state                 everything it reads hangs from this one value

A reader that wants to read pages pins the state (pins.py); `pinned` says how it makes sure that it came in time.

bbolt copies the meta under a lock when a transaction begins (tx.go, init).
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.btree.cursor import lookup
from engines.btree.meta import Meta
from engines.btree.node import Node
from engines.btree.pager import Pager
from engines.btree.pins import Pin

__all__ = ["Current", "State", "read_one"]


@dataclass(slots=True, eq=False)  # not a tuple: Python 3.11 reads an attribute of slots five times as fast
class State:
    """One committed tree, as readers see it: the file, the meta, and the root of the bucket that the contract lives in."""

    pager: Pager
    meta: Meta
    root_id: int  # its page; 0 if the bucket lies inline in the root bucket's leaf, or isn't there
    root: Node
    sequence: int  # the bucket's own counter, which bbolt's users may have set


class Current:
    """Holds the current state. The committer alone sets it, under the write lock; any thread reads it."""

    __slots__ = ("state",)

    def __init__(self, state: State) -> None:
        self.state = state

    def pinned(self) -> tuple[State, Pin]:
        """The current state, and a pin on its txid.

        A commit may come in between any two steps here, and look at the pins before this one is there. If the state is still
        the current one after it was pinned, none has: then the writer sees the pin before it gives a page away. If not, all
        of it begins anew. `state.pager.pins` are the pins of the state's file. O(1).
        """
        while True:
            state = self.state
            pin = state.pager.pins.pin(state.meta.txid)
            if self.state is state:
                return state, pin
            # a commit came in between, and may have looked at the pins before this one was there


def read_one(current: Current, key: bytes) -> bytes | None:
    """The current value of `key`, a BucketValue if that is what it is; None if it is absent. O(height) bisections."""
    state, pin = current.pinned()
    value = lookup(state.pager, state.root, key)
    del pin  # until here, so that no page of the tree was written meanwhile
    return value

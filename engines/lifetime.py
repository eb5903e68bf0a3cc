"""What ends a store besides `close`: a fork of its process, and the interpreter's end.

    os.fork, in the child     each store is the parent's        `KVStore.leave_to_parent`
    the exit handlers         each store ends its threads       `KVStore.end_threads`
    the last reference        the store is closed               `KVStore.__del__`

1. The table of stores is weak: it keeps none alive.
2. A fork copies one thread, and the locks that the others hold. So the child waits for none of them.
3. The exit handlers run newest first; ours was registered when this module was imported, and one that a program has
   registered before still follows. So ours doesn't close the stores: they work on, without threads, and are closed
   when the interpreter drops them. A store that it doesn't drop is left as by a kill, which loses nothing either.
4. After the exit handlers a thread that isn't the main one stops wherever it is, and whatever it holds stays locked.

**Interrupts.** Ctrl-C raises KeyboardInterrupt in the main thread, wherever it is. What is half done then is each
engine's matter: it poisons the store. But no lock may stay held, or the next call would wait for ever. A `with` of
several lines has a gap: an exception may be raised on its way to the lock's release, which stands outside of what it
guards. `holding` has none, and neither has a `with` whose body stands on its own line, for the hot paths.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, TypeVarTuple

from engines.locks import after_fork_in_child

__all__ = ["Arguments", "holding", "new_lock", "nothing_to_close", "watch"]

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")

_LOCKS: dict[type, Any] = {type(make()): make for make in (threading.Lock, threading.RLock, threading.Condition)}


class _Store(Protocol):
    def leave_to_parent(self) -> None: ...
    def end_threads(self) -> None: ...


_stores: weakref.WeakSet[_Store] = weakref.WeakSet()  # that are open, and some that are closed
_no_threads = False  # True from the interpreter's exit handlers on


def watch(store: _Store) -> None:
    """Enters an open store in the table. O(1)."""
    _stores.add(store)
    if _no_threads:
        store.end_threads()


def holding(
    lock: AbstractContextManager[object], call: Callable[[*Arguments], Answer], *arguments: *Arguments
) -> Answer:
    """Calls with a lock held; an interrupt at any line gives it up."""
    with lock: return call(*arguments)  # fmt: skip  # noqa: E701


def new_lock(value: object) -> Any:
    """A lock of the same kind, that nobody holds; None if the value is no lock."""
    make = _LOCKS.get(type(value))
    return None if make is None else make()


def nothing_to_close() -> None:
    """`close` of a parent's store."""


def _leave_stores_to_parent() -> None:
    for store in list(_stores):
        store.leave_to_parent()


def _end_all_threads() -> None:
    global _no_threads
    _no_threads = True
    for store in list(_stores):
        store.end_threads()


after_fork_in_child(_leave_stores_to_parent)
atexit.register(_end_all_threads)

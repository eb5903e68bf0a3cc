"""Programs that end while a store is open, in each of the ways that Python has for that: run as a script of its own.

    python tests/conformance/endings.py PROGRAM ENGINE PATH        writes; prints how many puts were acknowledged

Needs the engines and nothing of pytest, so that every Python that has the engines' few libraries can run it.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from typing import Any

PUTS = 1_500  # some memtables, segments and pages of the sizes below
OPTIONS: dict[str, dict[str, Any]] = {
    "lsm": {"write_buffer_bytes": 8_192, "max_file_bytes": 8_192},
    "bitcask": {"max_file_size": 32_768, "merge": "thread"},
}

kept: list[Any] = []  # a global, which lives until the interpreter takes the modules down
acknowledged = 0


def opened(engine: str, path: str) -> Any:
    import engines

    return engines.open(path, engine, sync=False, **OPTIONS.get(engine, {}))


def puts(store: Any) -> None:
    """Overwrites as well, so that there is something to merge and to compact."""
    global acknowledged
    for number in range(PUTS):
        store.put(b"%05d" % number, b"%05d" % number * 20)
        store.put(b"same%d" % (number % 7), b"%05d" % number * 20)
        acknowledged = number + 1
    say()


def say() -> None:
    print(acknowledged, flush=True)


def left_open(engine: str, path: str) -> None:
    """Nobody closes it."""
    kept.append(opened(engine, path))
    puts(kept[0])


class Owner:
    def __init__(self, store: Any, last: Callable[[Any], None]) -> None:
        self.store = store
        self.last = last

    def __del__(self) -> None:
        self.last(self.store)
        self.store.close()


def closed_in_del(engine: str, path: str) -> None:
    """A global's `__del__` closes it, when the modules are taken down."""
    kept.append(Owner(opened(engine, path), lambda store: None))
    puts(kept[0].store)


def written_in_del(engine: str, path: str) -> None:
    """A global's `__del__` writes to it, when no thread can run any more, and closes it."""
    kept.append(Owner(opened(engine, path), puts))


def written_at_exit(engine: str, path: str) -> None:
    """An exit handler that was registered after the engines were imported, and so runs before theirs."""
    store = opened(engine, path)
    atexit.register(puts, store)


def written_at_last(engine: str, path: str) -> None:
    """One that was registered before, and so runs after theirs."""
    atexit.register(lambda: puts(kept[0]))
    kept.append(opened(engine, path))


def opened_at_last(engine: str, path: str) -> None:
    """A store that is opened when the engines' exit handler has run."""

    def last() -> None:
        kept.append(opened(engine, path))
        puts(kept[0])

    atexit.register(last)
    import engines  # noqa: F401


def daemon_writes(engine: str, path: str) -> None:
    """A daemon thread is stopped in the middle of a put, perhaps; the main thread's end closes."""
    store = opened(engine, path)
    kept.append(Owner(store, lambda store: None))
    puts(store)

    def write() -> None:
        number = 0
        while True:
            number += 1
            store.put(b"daemon%d" % (number % 100), b"v" * 100)

    threading.Thread(target=write, daemon=True).start()


def daemon_holds(engine: str, path: str) -> None:
    """A daemon thread holds every lock of the store when it is stopped."""
    store = opened(engine, path)
    kept.append(Owner(store, lambda store: None))
    puts(store)
    held = threading.Event()

    def hold() -> None:
        for lock in vars(store).values():
            if isinstance(lock, type(threading.Lock())):
                lock.acquire()
        held.set()
        threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()


PROGRAMS = {
    program.__name__: program
    for program in (
        left_open,
        closed_in_del,
        written_in_del,
        written_at_exit,
        written_at_last,
        opened_at_last,
        daemon_writes,
        daemon_holds,
    )
}


def check(engine: str, path: str, count: str) -> None:
    """Opens it again: everything that was acknowledged is there, and it is sound."""
    with opened(engine, path) as store:
        for number in range(int(count)):
            assert store.get(b"%05d" % number) == b"%05d" % number * 20, f"{number} of {count} is not there"
        problems = store.check()
        assert not problems, problems


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    PROGRAMS[program](*arguments)

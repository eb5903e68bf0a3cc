"""Ctrl-C at a line: raises KeyboardInterrupt at the n-th line that a call runs in an engine's own files.

As a signal's handler would raise it. A real signal comes between some lines only, so this asks for more than that; and
an interrupt within `__del__` is nobody's to see, so none is raised there.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import engines
from engines import KVStore, StoreError, StoreFailed
from tests.conformance.engine_table import Engine

__all__ = ["CALLS", "interrupted_at", "lines_of"]

OLD = {b"k%02d" % number: b"old" for number in range(12)}
LOADED = {b"l%02d" % number: b"loaded" for number in range(12)}
PATIENCE_S = 20.0  # for calls that take milliseconds, unless they wait for a lock that nobody gives up

Trace = Callable[[FrameType, str, Any], Any]


def _batch(store: KVStore) -> None:
    with store.batch() as batch:
        batch.put(b"k03", b"new")
        batch.delete(b"k04")
        batch.put(b"new", b"new")


def _scan(store: KVStore) -> None:
    for reverse in (False, True):
        assert len(list(store.scan(b"k01", reverse=reverse))) == 11


def _snapshot(store: KVStore) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.get(b"k01") == b"old"
        assert len(list(snapshot.scan())) == 12
        store.put(b"k02", b"new")


# call → (what it does, what the store holds afterwards); "open" is a call as well, of a store that was closed
CALLS: dict[str, tuple[Callable[[KVStore], object], dict[bytes, bytes]]] = {
    "get": (lambda store: store.get(b"k01"), OLD),
    "put": (lambda store: store.put(b"k01", b"new"), OLD | {b"k01": b"new"}),
    "put, synced": (lambda store: store.put(b"k01", b"new", sync=True), OLD | {b"k01": b"new"}),
    "delete": (lambda store: store.delete(b"k02"), {key: b"old" for key in OLD if key != b"k02"}),
    "batch": (_batch, {key: b"old" for key in OLD if key != b"k04"} | {b"k03": b"new", b"new": b"new"}),
    "scan": (_scan, OLD),
    "snapshot": (_snapshot, OLD | {b"k02": b"new"}),
    "load": (lambda store: store.load(LOADED.items()), LOADED),
    "flush": (lambda store: store.flush(), OLD),
    "compact": (lambda store: store.compact(), OLD),
    "stats": (lambda store: store.stats(), OLD),
    "size_bytes": (lambda store: store.size_bytes(), OLD),
    "describe": (lambda store: store.describe(), OLD),
    "check": (lambda store: store.check(), OLD),
    "close": (lambda store: store.close(), OLD),
    "open": (lambda store: None, OLD),
}


class _Interrupt:
    """Counts the lines of an engine's files, and raises at the wanted one. `place` is where, None if it wasn't reached."""

    def __init__(self, engine: Engine, wanted: int) -> None:
        own = inspect.getsourcefile(engine.store_class)
        self._files = (os.path.dirname(engines.__file__) + os.sep, *([own] if own else []))
        self._wanted = wanted
        self.lines = 0
        self.place: str | None = None

    def trace(self, frame: FrameType, event: str, _: Any) -> Trace | None:
        if not frame.f_code.co_filename.startswith(self._files):
            return None
        if event == "line" and not _within_finalizer(frame):
            self.lines += 1
            if self.lines == self._wanted:
                sys.settrace(None)
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.trace

    def run(self, call: Callable[[], object]) -> object:
        """Runs the call; returns what it returns, None if it was interrupted."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # in a weak reference's callback it is nobody's
        sys.settrace(self.trace)
        try:
            return call()
        except KeyboardInterrupt:
            return None
        finally:
            sys.settrace(None)
            sys.unraisablehook = hook


def _within_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _in_time(call: Callable[[], object]) -> str:
    """What becomes of a call in a thread of its own, which waits if a lock is held: "answers", an error's name, "hangs"."""
    said: list[str] = []

    def run() -> None:
        try:
            call()
            said.append("answers")
        except StoreFailed:
            said.append("StoreFailed")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return said[0] if said else "hangs"


def interrupted_at(engine: Engine, name: str, line: int, path: str, **options: Any) -> str | None:
    """What is wrong after the call was interrupted at its n-th line, "" if nothing is; None if it has fewer lines."""
    call, after = CALLS[name]
    interrupt = _Interrupt(engine, line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a store whose opening is interrupted at its last line
        store = engine.open(path, **options)
        with store.batch() as batch:
            for key, value in OLD.items():
                batch.put(key, value)
        if name == "open":
            store.close()
            opened = interrupt.run(lambda: engine.open(path, **options))
            if isinstance(opened, KVStore):
                store = opened
        else:
            interrupt.run(lambda: call(store))
        if interrupt.place is None:
            store.close()
            return None
        wrong = "" if name == "open" else _after_interrupt(store, name)
        wrong = wrong or _in_files(engine, path, after, options)
    return wrong and f"{name}, interrupted at {interrupt.place} ({line}): {wrong}"


def _after_interrupt(store: KVStore, name: str) -> str:
    """The store goes on, or has failed; its close returns."""
    if name != "close":
        for said in (_in_time(lambda: store.put(b"x", b"1")), _in_time(lambda: list(store.scan()))):
            if said not in ("answers", "StoreFailed"):
                return f"the next call: {said}"
        held = [b"x"] if said == "answers" else []
        if held and store.get(b"x") != b"1":
            return "a put that was acknowledged isn't there"
    closed = _in_time(store.close)
    return "" if closed == "answers" else f"close: {closed}"


def _in_files(engine: Engine, path: str, after: dict[bytes, bytes], options: dict[str, Any]) -> str:
    """What the next open finds: what was there before the call, or after it, and nothing wrong."""
    try:
        with engine.open(path, **options) as store:
            found, problems = dict(store.scan()), store.check()
    except StoreError as error:
        return f"open again: {type(error).__name__}: {error}"
    found.pop(b"x", None)
    if engine.persistent and found not in (OLD, after):
        return f"there is neither what was before the call nor what was after it: {found}"
    return f"check: {problems[0]}" if problems else ""


def lines_of(engine: Engine, name: str, path: str, **options: Any) -> int:
    """How many lines a call runs, about: threads, caches and the collector make it vary."""
    interrupt = _Interrupt(engine, 0)
    with engine.open(path, **options) as store:
        with store.batch() as batch:
            for key, value in OLD.items():
                batch.put(key, value)
        if name == "open":
            store.close()
            opened = interrupt.run(lambda: engine.open(path, **options))
            assert isinstance(opened, KVStore)
            opened.close()
        else:
            interrupt.run(lambda: CALLS[name][0](store))
    return interrupt.lines

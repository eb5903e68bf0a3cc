"""What the cases about processes run: each function is a program of its own, in an interpreter of its own.

A fork of pytest itself would copy whatever threads it has at the moment, and an interrupt or an exit would be pytest's.
Each program prints "ok" at its end; what it has to say against the engine is an AssertionError.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from engines import KVStore, StoreForked
from tests.conformance.calls import calls_on
from tests.conformance.engine_table import Engine, engine_table

__all__ = ["locks_of"]

PAIRS = [(b"%03d" % number, b"v" * 50) for number in range(200)]
LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
PATIENCE_S = 20  # of a child, whose calls take milliseconds unless they wait for a lock that nobody gives up


def locks_of(thing: Any, depth: int = 3) -> Iterator[Any]:
    """The locks in an object's attributes, and in those of the objects that it has."""
    for value in list(getattr(thing, "__dict__", {}).values()):
        if isinstance(value, LOCKS):
            yield value
        elif depth and hasattr(value, "__dict__") and not isinstance(value, type):
            yield from locks_of(value, depth - 1)


def child(program: Callable[[], object]) -> int:
    """Forks a child that runs a program, and ends with the code 0, or with 1 and a traceback; its process id."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(PATIENCE_S)
    code = 1
    try:
        program()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended_well(pid: int) -> bool:
    """Waits for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _filled(engine: Engine, path: str, **options: Any) -> KVStore:
    store = engine.open(path, **options)
    for key, value in PAIRS:
        store.put(key, value)
    return store


def refused_in_child(where: str, path: str) -> None:
    """Every call in a child raises StoreForked, and leaving its `with` blocks is harmless; the parent goes on."""
    store = _filled(engine_table([where])[0], path)
    snapshot, scan, backward = store.snapshot(), store.scan(), store.scan(reverse=True)
    next(scan)
    next(backward)
    of_snapshot = snapshot.scan()
    next(of_snapshot)

    kept: list[Any] = [store, snapshot, scan, backward, of_snapshot]

    def program() -> None:
        more = {
            "next of a scan": lambda: next(scan),
            "next of a scan backward": lambda: next(backward),
            "next of a snapshot's scan": lambda: next(of_snapshot),
            "snapshot.get": lambda: snapshot.get(b"000"),
            "snapshot.scan": lambda: next(snapshot.scan()),
        }
        for name, call in {**calls_on(store), **more}.items():
            try:
                call()
            except StoreForked as refusal:
                assert "open it here" in str(refusal)
            else:
                raise AssertionError(f"{name} was answered in a child")
        with store, snapshot:
            pass
        store.close()
        snapshot.close()
        for each in kept:  # the child's end doesn't call them
            if hasattr(each, "__del__"):
                each.__del__()
        gc.collect()

    for _ in range(2):
        assert ended_well(child(program))
        with store.batch() as batch:
            batch.put(b"after", b"1")
        assert next(scan) in PAIRS
    assert snapshot.get(b"000") == b"v" * 50
    snapshot.close()
    store.close()
    _holds(where, path, dict(PAIRS) | {b"after": b"1"})


def _holds(where: str, path: str, expected: dict[bytes, bytes]) -> None:
    """The store has the pairs when it is opened again, and is sound. (Nothing is asked of a store without files.)"""
    engine = engine_table([where])[0]
    if engine.persistent:
        with engine.open(path) as store:
            assert dict(store.scan()) == expected
            assert store.check() == []
    print("ok")


def no_lock_is_waited_for(where: str, path: str) -> None:
    """At the fork, another thread holds every lock that the store has; the child's calls return nevertheless."""
    store = _filled(engine_table([where])[0], path)
    snapshot, scan = store.snapshot(), store.scan()
    next(scan)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        locks = list({id(lock): lock for lock in locks_of(store)}.values())
        for lock in locks:
            lock.acquire()
        held.set()
        done.wait()
        for lock in reversed(locks):
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def program() -> None:
        for name, call in {**calls_on(store), "next": lambda: next(scan)}.items():
            try:
                call()
            except StoreForked:
                continue
            raise AssertionError(f"{name} was answered in a child")
        snapshot.close()
        store.close()

    well = ended_well(child(program))
    done.set()
    thread.join()
    assert well
    assert store.get(b"000") == b"v" * 50
    snapshot.close()
    store.close()
    _holds(where, path, dict(PAIRS))


def fork_within_a_load(where: str, path: str) -> None:
    """What a load's pairs come from forks: in the child the load is refused, and takes nothing from the parent's."""
    store = _filled(engine_table([where])[0], path)
    children: list[int] = []
    in_child = False

    def pairs() -> Iterator[tuple[bytes, bytes]]:
        nonlocal in_child
        for number in range(600):
            if number == 400:
                pid = os.fork()
                in_child = pid == 0
                children.append(pid)
            yield b"%03d" % number, b"loaded"

    try:
        store.load(pairs())
    except StoreForked:
        os._exit(0 if in_child else 1)
    assert not in_child, "the load was answered in a child"
    assert ended_well(children[0])
    store.put(b"after", b"1")
    store.close()
    _holds(where, path, {b"%03d" % number: b"loaded" for number in range(600)} | {b"after": b"1"})


def opened_after_the_fork(where: str, path: str) -> None:
    """A child opens another store at once, and the parent's when that is closed; an older child is in nobody's way."""
    engine = engine_table([where])[0]
    store = _filled(engine, path)
    idle_read, idle_write = os.pipe()
    closed_read, closed_write = os.pipe()

    def idle() -> None:
        os.close(idle_write)
        os.read(idle_read, 1)

    def opens() -> None:
        with engine.open(f"{path}-of-child") as own:
            own.put(b"own", b"1")
        os.read(closed_read, 1)
        with engine.open(path) as again:
            if engine.persistent:
                assert dict(again.scan()) == dict(PAIRS)
            again.put(b"of child", b"1")

    waiting = child(idle)  # it has inherited every descriptor, and goes on living
    opening = child(opens)
    store.close()
    os.write(closed_write, b"!")
    assert ended_well(opening)
    _holds(where, path, dict(PAIRS) | {b"of child": b"1"})
    os.close(idle_write)
    assert ended_well(waiting)


def forked_by_multiprocessing(where: str, path: str) -> None:
    """multiprocessing's fork, the default on Linux before 3.14: the child's put fails, and the parent's go on."""
    import multiprocessing

    store = _filled(engine_table([where])[0], path)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def put() -> None:
        try:
            store.put(b"of child", b"1")
        except StoreForked as refusal:
            sender.send(str(refusal))

    process = context.Process(target=put)
    process.start()
    assert receiver.poll(PATIENCE_S)
    assert "open it here" in receiver.recv()
    process.join()
    store.put(b"after", b"1")
    store.close()
    _holds(where, path, dict(PAIRS) | {b"after": b"1"})

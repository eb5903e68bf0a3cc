"""What the chapters' tests share: how many rounds, a history that can be shown, a model run, and power cuts.

    rounds(40)                                40 in a learner's check (METCD_LEARN=1), 5 in `make test`, at least 1
    def test_x(history: History, rng, seed):  a fixture; if the test fails, `metcd learn trace` shows its lines

    history.do("store.put(b'a', b'1')")       an operation; the lines are numbered
    history.note("node 1 becomes a leader")   what happens meanwhile, indented
    history.expect("store.get(b'a')", b"1", found)      an operation with its answer: AssertionError if they differ
    store = history.watch(store, "store")     an object each of whose calls is an operation
    env = history.watch_disk(SimEnv(seed))    a simulated disk each of whose calls is a note

    model_run(lambda env: Engine("/db", env=env), rng, history, steps=200, without={"load"})
        200 operations of every kind on a new store and on a dict, which have to agree after each: get, multi_get, `in`,
        scan (both directions, all bounds, also held open while others write), put, delete, batch, snapshot, flush,
        compact, load, reopen. A failing run is shortened before it is shown. `without` are names of OPERATIONS, for
        what is not written yet; `persistent=False` leaves out "reopen". The disk of each run is a new SimEnv.

    power_cuts(store_subject("lsm", steps=25, without={"compact", "load"}, write_buffer_bytes=600), seed, history)
        a workload in which the power is cut after every call that changes the disk, in each of the eight ways of
        engines.simdisk, and what is found afterwards has to be what was acknowledged, or that and more of what was
        begun. `store_subject` is tests.crash's StoreSubject, with fewer steps; any other Subject of tests.crash will
        do. The history has the operations, the calls of the disk, and the moment of the cut.

Everything is decided by the seed. Chapters' tests always run the plain form (conftest.py says METCD_PLAIN=1).
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from engines import KVStore, Snapshot, WriteBatch
from engines.env import Env
from engines.kvstore import Operation
from engines.simenv import Call, SimEnv
from tests.conformance.model import expected_scan
from tests.crash.machine import KILL, Failure, PowerCut, Report, Step, Subject
from tests.crash.machine import History as States
from tests.crash.store_subject import StoreSubject

__all__ = ["OPERATIONS", "History", "model_run", "power_cuts", "rounds", "store_subject"]

LINES_MAX = 2_000  # of a history; the first ones go
SHORTENINGS = 400  # runs that are spent on making a failing history shorter
STATE_MAX = 1_500  # characters of a state that was due
OPERATIONS_TOLD = 12  # of a batch
TOLD_MAX = 60  # characters of a key or a value in a line

Thing = TypeVar("Thing")


def rounds(count: int) -> int:
    """How often a test repeats something: `count` times in a learner's check, an eighth of it in `make test`."""
    return count if os.environ.get("METCD_LEARN", "0") not in ("", "0") else max(1, count // 8)


# ---- the history ------------------------------------------------------------------------------------------------------


class History:
    """What a test did, as lines that a person can read, and could type."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.film: dict[str, Any] | None = None  # of a run of Raft: what `metcd learn trace --html` shows
        self._operations = 0

    def do(self, what: str) -> None:
        """An operation begins."""
        self._operations += 1
        self._add(f"{self._operations:4}  {what}")

    def note(self, what: str) -> None:
        """Something happens within it."""
        self._add(f"          {what}")

    def expect(self, what: str, expected: object, found: object) -> None:
        """An operation and its answer. Raises AssertionError, and notes both answers, if it is the wrong one."""
        self.do(what)
        if found != expected:
            self.note(f"expected  {expected!r}")
            self.note(f"found     {found!r}")
            raise AssertionError(f"{what}\n  expected  {expected!r}\n  found     {found!r}")

    def watch(self, thing: Thing, name: str) -> Thing:
        """The thing, each call of whose methods is an operation."""
        return _Watched(thing, name, self)  # type: ignore[return-value]

    def watch_disk(self, env: SimEnv) -> SimEnv:
        """The disk, each call of which that changes it is a note."""
        env.after_call = lambda call: self.note(f"disk {told_call(call)}")
        return env

    def clear(self) -> None:
        """Begins anew: another round of the same test."""
        self.lines.clear()
        self._operations = 0

    def _add(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) > LINES_MAX:
            del self.lines[: LINES_MAX // 2]

    def __str__(self) -> str:
        return "\n".join(self.lines)


class _Watched:
    """Stands before an object and writes down what is called."""

    def __init__(self, thing: Any, name: str, history: History) -> None:
        self._thing, self._name, self._history = thing, name, history

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._thing, attribute)
        if not callable(value):
            return value

        def call(*arguments: Any, **keywords: Any) -> Any:
            told = [told_value(argument) for argument in arguments]
            told += [f"{name}={told_value(argument)}" for name, argument in keywords.items()]
            self._history.do(f"{self._name}.{attribute}({', '.join(told)})")
            return value(*arguments, **keywords)

        return call

    def __contains__(self, key: object) -> bool:
        self._history.do(f"{told_value(key)} in {self._name}")
        return key in self._thing

    def __enter__(self) -> Any:
        self._thing.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._thing.__exit__(*error)


def told_value(value: object) -> str:
    """An argument as text; long bytes are cut, with their length."""
    if isinstance(value, WriteBatch):
        return f"batch of {told_operations(value.operations)}"
    text = repr(value)
    if isinstance(value, bytes) and len(text) > TOLD_MAX:
        return f"{value[:12]!r}...{len(value):,} bytes"
    return text


def told_operations(operations: Sequence[Operation]) -> str:
    """A batch as text; of a long one its beginning, and how long it is."""
    told = [
        f"delete({told_value(key)})" if value is None else f"put({told_value(key)}, {told_value(value)})"
        for key, value in operations[:OPERATIONS_TOLD]
    ]
    more = f", ... {len(operations)} operations" if len(operations) > OPERATIONS_TOLD else ""
    return f"[{', '.join(told)}{more}]"


def told_call(call: Call) -> str:
    """A call of the disk as text."""
    return f"call {call.number}: {call.kind} {call.path}{' at ' + call.site if call.site else ''}"


# ---- a model run ------------------------------------------------------------------------------------------------------

# Few, so that operations meet; neighbours in order, and prefixes of each other
KEYS = (b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"ab", b"b", b"\x00", b"\xff", b"\xff\xff", b"ba", b"k" * 40)
BOUNDS = (b"", *KEYS, b"aa", b"c", b"\xff\x00")

# name → how often it comes
OPERATIONS = {
    "put": 24, "delete": 10, "batch": 12, "get": 12, "multi_get": 3, "in": 3, "scan": 14, "begin_scan": 4, "go_on": 8,
    "snapshot": 4, "snapshot_get": 6, "snapshot_scan": 6, "close_snapshot": 3, "flush": 3, "compact": 2, "load": 1,
    "reopen": 2,
}  # fmt: skip

OpenStore = Callable[[Env], KVStore]
Planned = tuple[str, tuple[Any, ...]]  # a name of OPERATIONS, and what it is done with


def model_run(
    open_store: OpenStore,
    rng: random.Random,
    history: History,
    *,
    steps: int = 200,
    without: Collection[str] = (),
    persistent: bool = True,
) -> None:
    """Does the same to a store and to a dict, and compares them; the module's docstring has the rest.

    `open_store(env)` creates the store, or opens it again. Raises AssertionError with the shortest failing history that
    was found, which `history` then has too; any other error of the store likewise.
    """
    unknown = set(without) - OPERATIONS.keys()
    assert not unknown, f"no operation is called {sorted(unknown)}"
    left_out = {*without, *(() if persistent else ("reopen",))}
    kinds = {kind: weight for kind, weight in OPERATIONS.items() if kind not in left_out}
    names = rng.choices(list(kinds), list(kinds.values()), k=steps)
    plan = [(name, _arguments(name, rng)) for name in names]
    if _try(open_store, plan, history) is None:
        return
    shortest = _shortened(open_store, plan)
    failure = _try(open_store, shortest, history) or AssertionError("the run fails now and then: is chance in it?")
    if isinstance(failure, AssertionError):
        raise AssertionError(
            f"after {len(shortest)} operations, the shortest history that fails: {failure}"
        ) from failure
    raise failure


def _arguments(name: str, rng: random.Random) -> tuple[Any, ...]:
    """Chosen by chance, for one operation."""
    if name == "put":
        return rng.choice(KEYS), _value(rng), rng.choice((None, True, False))
    if name in ("delete", "get", "in"):
        return (rng.choice(KEYS),)
    if name == "multi_get":
        return (rng.choices(KEYS, k=rng.randint(0, 4)),)
    if name == "batch":
        operations = [(rng.choice(KEYS), None if rng.random() < 0.4 else _value(rng)) for _ in range(rng.randint(0, 5))]
        return operations, rng.choice((None, True, False))
    if name in ("scan", "begin_scan", "snapshot_scan"):
        stop = None if rng.random() < 0.4 else rng.choice(BOUNDS)
        prefix = None if rng.random() < 0.6 else rng.choice(BOUNDS)
        bounds = (b"" if rng.random() < 0.4 else rng.choice(BOUNDS), stop, prefix, rng.random() < 0.4)
        return (rng.random(), *bounds) if name == "snapshot_scan" else bounds
    if name == "go_on":
        return rng.random(), rng.randint(1, 4)
    if name == "snapshot_get":
        return rng.random(), rng.choice(KEYS)
    if name == "close_snapshot":
        return (rng.random(),)
    if name == "load":
        return ([(key, _value(rng)) for key in sorted(rng.sample(KEYS, rng.randint(0, 6)))],)
    return ()


def _value(rng: random.Random) -> bytes:
    """Different nearly every time; empty, short, or longer than a page of a small store."""
    size = rng.choice((0, 1, 2, 3, 3, 8, 30, 300))
    return bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=size))


def _try(open_store: OpenStore, plan: list[Planned], history: History) -> Exception | None:
    """One run; what it raised. The history has its operations then."""
    history.clear()
    run = _Run(open_store, history)
    try:
        for name, arguments in plan:
            getattr(run, "do_" + name)(*arguments)
        run.end()
    except Exception as failure:
        return failure
    return None


def _shortened(open_store: OpenStore, plan: list[Planned]) -> list[Planned]:
    """A part of the plan that fails too, and of which no single operation can be left out (if the tries suffice)."""
    tries, size = SHORTENINGS, len(plan) // 2
    while size and tries:
        at = 0
        while at < len(plan) and tries:
            tries -= 1
            shorter = plan[:at] + plan[at + size :]
            if _try(open_store, shorter, History()) is not None:
                plan = shorter
            else:
                at += size
        size //= 2
    return plan


class _Run:
    """A store and its model: a dict, with a copy of it for each snapshot."""

    def __init__(self, open_store: OpenStore, history: History) -> None:
        self.open_store, self.history = open_store, history
        self.env = SimEnv(0)
        self.items: dict[bytes, bytes] = {}
        self.snapshots: list[tuple[str, Snapshot, dict[bytes, bytes]]] = []
        self.scans: list[tuple[str, Iterator[Any], Iterator[Any]]] = []
        self.taken = 0
        history.do("store = a new one")
        self.store = open_store(self.env)

    def _write(self, operations: Sequence[Operation]) -> None:
        for key, value in operations:
            if value is None:
                self.items.pop(key, None)
            else:
                self.items[key] = value

    def do_put(self, key: bytes, value: bytes, sync: bool | None) -> None:
        self.history.do(f"store.put({told_value(key)}, {told_value(value)}, sync={sync})")
        self.store.put(key, value, sync=sync)
        self._write([(key, value)])

    def do_delete(self, key: bytes) -> None:
        self.history.do(f"store.delete({told_value(key)})")
        self.store.delete(key)
        self._write([(key, None)])

    def do_batch(self, operations: list[Operation], sync: bool | None) -> None:
        self.history.do(f"store.write(batch of {told_operations(operations)}, sync={sync})")
        batch = WriteBatch()
        for key, value in operations:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self.store.write(batch, sync=sync)
        self._write(operations)

    def do_get(self, key: bytes) -> None:
        self.history.expect(f"store.get({told_value(key)})", self.items.get(key), self.store.get(key))

    def do_multi_get(self, keys: list[bytes]) -> None:
        expected = [self.items.get(key) for key in keys]
        self.history.expect(f"store.multi_get({keys})", expected, self.store.multi_get(keys))

    def do_in(self, key: bytes) -> None:
        self.history.expect(f"{told_value(key)} in store", key in self.items, key in self.store)

    def do_scan(self, start: bytes, stop: bytes | None, prefix: bytes | None, reverse: bool) -> None:
        expected = expected_scan(self.items, start, stop, prefix, reverse)
        found = list(self.store.scan(start, stop, prefix=prefix, reverse=reverse))
        self.history.expect(f"list(store.scan({_told_bounds(start, stop, prefix, reverse)}))", expected, found)

    def do_begin_scan(self, start: bytes, stop: bytes | None, prefix: bytes | None, reverse: bool) -> None:
        self.taken += 1
        name = f"scan{self.taken}"
        self.history.do(f"{name} = store.scan({_told_bounds(start, stop, prefix, reverse)})")
        expected = iter(expected_scan(self.items, start, stop, prefix, reverse))
        self.scans.append((name, self.store.scan(start, stop, prefix=prefix, reverse=reverse), expected))

    def do_go_on(self, which: float, count: int) -> None:
        if self.scans:
            name, found, expected = self.scans[int(which * len(self.scans))]
            for _ in range(count):
                self.history.expect(f"next({name}, None)", next(expected, None), next(found, None))

    def do_snapshot(self) -> None:
        self.taken += 1
        name = f"snapshot{self.taken}"
        self.history.do(f"{name} = store.snapshot()")
        self.snapshots.append((name, self.store.snapshot(), dict(self.items)))

    def do_snapshot_get(self, which: float, key: bytes) -> None:
        if self.snapshots:
            name, snapshot, items = self.snapshots[int(which * len(self.snapshots))]
            self.history.expect(f"{name}.get({told_value(key)})", items.get(key), snapshot.get(key))

    def do_snapshot_scan(
        self, which: float, start: bytes, stop: bytes | None, prefix: bytes | None, reverse: bool
    ) -> None:
        if self.snapshots:
            name, snapshot, items = self.snapshots[int(which * len(self.snapshots))]
            expected = expected_scan(items, start, stop, prefix, reverse)
            found = list(snapshot.scan(start, stop, prefix=prefix, reverse=reverse))
            self.history.expect(f"list({name}.scan({_told_bounds(start, stop, prefix, reverse)}))", expected, found)

    def do_close_snapshot(self, which: float) -> None:
        if self.snapshots:
            name, snapshot, _ = self.snapshots.pop(int(which * len(self.snapshots)))
            self.history.do(f"{name}.close()")
            snapshot.close()

    def do_flush(self) -> None:
        self.history.do("store.flush()")
        self.store.flush()

    def do_compact(self) -> None:
        self.history.do("store.compact()")
        self.store.compact()

    def do_load(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.history.do(f"store.load({told_operations(pairs)})")
        self.store.load(pairs)
        self.items = dict(pairs)

    def do_reopen(self) -> None:
        self.history.do("store.close(), and it is opened again")
        self.snapshots.clear()
        self.scans.clear()
        self.store.close()
        self.store = self.open_store(self.env)

    def end(self) -> None:
        """What is there in the end, read in both directions; then what was held open."""
        self.do_scan(b"", None, None, False)
        self.do_scan(b"", None, None, True)
        for name, snapshot, items in self.snapshots:
            self.history.expect(f"list({name}.scan())", sorted(items.items()), list(snapshot.scan()))
        for name, found, expected in self.scans:
            self.history.expect(f"list({name})", list(expected), list(found))
        self.store.close()


def _told_bounds(start: bytes, stop: bytes | None, prefix: bytes | None, reverse: bool) -> str:
    told = f"{told_value(start)}, {told_value(stop)}"
    return (
        told + (f", prefix={told_value(prefix)}" if prefix is not None else "") + (", reverse=True" if reverse else "")
    )


# ---- power cuts -------------------------------------------------------------------------------------------------------


class _FewKinds(StoreSubject):
    """A StoreSubject that leaves out kinds of steps."""

    def __init__(self, engine: str, without: Collection[str], **options: Any) -> None:
        super().__init__(engine, **options)
        self.without = without

    def steps(self, rng: random.Random) -> list[Step]:
        return [step for step in super().steps(rng) if step.kind not in self.without]


def store_subject(engine: str, *, steps: int = 25, without: Collection[str] = (), **options: Any) -> StoreSubject:
    """A workload of some `steps` steps on an engine: "write", "flush", "compact", "load", "reopen", "kill", less those
    named in `without`. `options` are StoreSubject's, and the engine's."""
    return _FewKinds(engine, without, steps=steps, **options)


def power_cuts(subject: Subject, seed: int, history: History, **options: Any) -> Report:
    """Cuts the power after every call, and returns what was done. `options` are those of tests.crash's PowerCut.

    Raises AssertionError for the first image that is not what it has to be; the history then has everything up to that.
    """
    _cut(subject, seed, history, {**options, "cut_after": ()})  # with the power on: what is wrong then is told as it is
    report = _cut(subject, seed, history, options)
    if report.failures and report.failures[0].what.startswith("then "):
        # found by a second cut or a probe only: without those there may be a plainer failure, later on
        plainer = _cut(subject, seed, history, {**options, "probe_share": 0.0, "second_cut_share": 0.0})
        report = plainer if plainer.failures else _cut(subject, seed, history, options)
    if report.failures:
        told = _told_failure(report.failures[0])
        if not history.lines:
            for line in ("the store is made where nothing is", *told):
                history.note(line)
        raise AssertionError("\n  ".join(["after a power cut the store is not what it has to be:", *told]))
    return report


def _cut(subject: Subject, seed: int, history: History, options: Mapping[str, Any]) -> Report:
    """One workload, up to its first failure."""
    history.clear()
    report = Report(subject.name)
    run = PowerCut(subject, seed, report, stop_at_first=True, **options)
    run.history = _TracedStates(subject, history, run)
    run.run()
    return report


LONG_PADDING = re.compile(r"\.{40,}")  # the dots with which the workloads make their values long


def _told_failure(failure: Failure) -> list[str]:
    return [
        f"cut after   {told_call(failure.call)}",
        f"what stays  {failure.policy.meaning}",
        f"found       {LONG_PADDING.sub(lambda dots: f'...({len(dots[0])} dots)', failure.what)}",
    ]


class _TracedStates(States):
    """The machine's history of states, which writes down the steps, and the calls of the disk in each."""

    def __init__(self, subject: Subject, history: History, run: PowerCut) -> None:
        super().__init__(subject)
        self.told, self.run = history, run
        self.watched: Callable[[Call], None] | None = None

    def begin(self, step: Step) -> None:
        if not self.run.done:
            self.told.do(told_step(step))
        hook = self.run.env.after_call
        if hook is not self.watched and hook is not None:  # the machine has set it; a kill hands ours on
            self.watched = self.run.env.after_call = lambda call: self._watch(call, hook)
        super().begin(step)

    def _watch(self, call: Call, cut: Callable[[Call], None]) -> None:
        if self.run.done:
            return
        self.told.note(told_call(call))
        cut(call)
        if self.run.done:
            self.told.note("the power is cut here; on the disk stays " + self.run.report.failures[0].policy.meaning)
            self.told.note(f"the store may show {self._may_show()}")
            self.told.note(f"found: {self.run.report.failures[0].what}")

    def _may_show(self) -> str:
        allowed = self.allowed()
        states = [repr(state) if len(repr(state)) <= STATE_MAX else "..." for state in allowed[:2]]
        later = f", or one of {len(allowed) - 2} later states" if len(allowed) > 2 else ""
        return " or ".join(states) + later

    def end(self, step: Step) -> None:
        super().end(step)
        if not self.run.done:
            self.told.note("returned" + (": from now on it may not be lost" if step.durable else ""))


def told_step(step: Step) -> str:
    """A step of a workload as text."""
    if step.kind == "write" and all(isinstance(argument, tuple) for argument in step.arguments):
        told = f"write {told_operations(step.arguments)}"
    elif step.kind == "load":
        told = f"load {told_operations(step.arguments)}"
    elif step.kind == KILL:
        told = "kill -9, and a new process opens it"
    else:
        told = " ".join([step.kind, *map(told_value, step.arguments)])
    return told + (", sync=True" if step.durable and step.kind == "write" else "")

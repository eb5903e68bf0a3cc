"""The contract, eighth point: a store belongs to the process that opened it, and ends with its last reference."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.calls import calls_on, run_python
from tests.conformance.engine_table import Engine, OpenStore
from tests.conformance.layouts import ITEMS, arrange


def run(program: str, engine: Engine, path: Path) -> None:
    """Runs a program of processes.py on an engine, in an interpreter of its own."""
    script = f"import sys; from tests.conformance import processes; processes.{program}(*sys.argv[1:])"
    ended = run_python(script, engine.where, str(path / "store"))
    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["ok"]), ended.stdout + ended.stderr


def test_a_forked_child_is_refused(engine: Engine, tmp_path: Path) -> None:
    """StoreForked, from every call of the store, its snapshots and scans; close and the end of `with` do nothing."""
    run("refused_in_child", engine, tmp_path)


def test_a_forked_child_waits_for_no_lock(engine: Engine, tmp_path: Path) -> None:
    """The threads that held them at the fork are not in the child."""
    run("no_lock_is_waited_for", engine, tmp_path)


def test_a_fork_within_a_load_leaves_the_load_to_the_parent(engine: Engine, tmp_path: Path) -> None:
    """The one call of a store within which a caller's code runs."""
    run("fork_within_a_load", engine, tmp_path)


@pytest.mark.persistent
def test_a_forked_child_opens_the_store_itself(engine: Engine, tmp_path: Path) -> None:
    """When the parent has closed it. flock's locks are inherited, and would stay with any child for all its life."""
    run("opened_after_the_fork", engine, tmp_path)


def test_a_child_of_multiprocessing_is_refused(engine: Engine, tmp_path: Path) -> None:
    """Its fork goes the same way."""
    run("forked_by_multiprocessing", engine, tmp_path)


def handles(path: Path) -> list[str]:
    """What this process has open or mapped below a path."""
    found = [line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()]
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the directory itself
            found.append(os.readlink(descriptor))
    return [name for name in found if name.startswith(str(path))]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector, which would hide a cycle."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_close_gives_everything_back_at_once(open_store: OpenStore, tmp_path: Path) -> None:
    """Descriptors, mappings, locks: nothing of them waits for the garbage collector, in a store that has done all."""
    store = open_store()
    arrange(store, ITEMS, "layered")
    for call in calls_on(store).values():
        call()
    assert len(list(store.scan())) > 0
    store.close()
    assert handles(tmp_path) == []


@pytest.mark.usefixtures("no_collector")
def test_a_dropped_store_is_closed(engine: Engine, tmp_path: Path) -> None:
    """With a ResourceWarning, at once, and for good: its lock is free, and what it held is there."""
    store = engine.open(str(tmp_path / "store"))
    store.put(b"a", b"1")
    with pytest.warns(ResourceWarning, match="dropped without close"):
        del store
    assert handles(tmp_path) == []
    with engine.open(str(tmp_path / "store")) as store:
        assert not engine.persistent or store.get(b"a") == b"1"


@pytest.mark.usefixtures("no_collector")
def test_a_scan_or_a_snapshot_keeps_its_store_open(engine: Engine, tmp_path: Path) -> None:
    """Reader.scan pins what it needs until it is exhausted or dropped; then a store that nobody else has is closed."""
    store = engine.open(str(tmp_path / "store"))
    store.put(b"a", b"1")
    store.put(b"b", b"2")
    scan, snapshot = store.scan(), store.snapshot()
    del store
    assert list(scan) == list(snapshot.scan()) == [(b"a", b"1"), (b"b", b"2")]
    with pytest.warns(ResourceWarning, match="dropped without close"):
        del scan, snapshot
    assert handles(tmp_path) == []

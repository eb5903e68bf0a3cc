"""The contract, fifth part: a write is durable, a failure is final, and readers never wait for the writer.

Here are the single promises, each with one sync that fails or waits. What happens when *any* call fails, or the power
is cut between any two, is tests/crash.
"""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from engines import KVStore, StoreClosed, StoreFailed
from engines.simenv import SimEnv
from tests.conformance.calls import calls_on
from tests.conformance.engine_table import Engine
from tests.conformance.hooked_env import HookedEnv
from tests.conformance.layouts import ITEMS, arrange
from tests.conformance.past_env import only_through_env

PATIENCE_S = 30.0  # for a thread that ought to be done at once
NOWHERE = "/nowhere/at/all"  # on the simulated disk; the real one hasn't got it
GOES_PAST = (
    "the engine made no sync of the `env` that its constructor was given: every file is to be opened, written, synced and "
    "renamed by it, or no test can make the disk fail, wait or lose its power (engines/WRITE_AN_ENGINE.md)"
)


def fail(site: str) -> None:
    raise OSError(errno.EIO, f"the disk fails at {site}")


@pytest.mark.persistent
def test_every_file_is_reached_through_the_env(engine: Engine, tmp_path: Path) -> None:
    """engines.env: "the only door". Without it no test can make the disk fail, wait or lose its power."""
    env = HookedEnv()
    sites: list[str] = []
    env.before_sync = sites.append
    with engine.open(str(tmp_path / "store"), env=env) as store:
        store.put(b"key", b"value", sync=True)
    assert sites, GOES_PAST
    with only_through_env(NOWHERE):
        engine.open(f"{NOWHERE}/store", env=SimEnv()).close()


@pytest.mark.persistent
def test_a_store_syncs_each_write_unless_told_otherwise(engine: Engine, tmp_path: Path) -> None:
    """Contract 3: the store's default is sync=True; sync=None does what the store was opened for."""
    env = HookedEnv()
    sites: list[str] = []
    env.before_sync = sites.append

    def syncs(store: KVStore, sync: bool | None) -> int:
        sites.clear()
        for number in range(10):
            store.put(b"key", b"%d" % number, sync=sync)
        return len(sites)

    with engine.open(str(tmp_path / "default"), env=env) as store:
        assert syncs(store, None) >= 10
        assert syncs(store, True) >= 10
        assert syncs(store, False) < 10
        sites.clear()
        store.put(b"key", b"not on disk", sync=False)
        store.flush()
        assert sites, "flush makes every write so far durable, those with sync=False too"
        with store.batch(sync=False) as batch:
            batch.put(b"key", b"value")
        store.delete(b"key", sync=False)
    with engine.open(str(tmp_path / "relaxed"), env=env, sync=False) as store:
        assert syncs(store, None) < 10
        assert syncs(store, True) >= 10
    assert all(sites), "every sync has a name"


@pytest.mark.persistent
@pytest.mark.parametrize("call", ["put", "batch", "flush", "load"])
def test_a_failed_sync_is_final(engine: Engine, tmp_path: Path, call: str) -> None:
    """Contract 5: the OSError comes out once, every later call raises StoreFailed and names it, nothing is retried;
    the next open shows what was acknowledged, and of the failed write all or nothing."""
    env = HookedEnv()
    with engine.open(str(tmp_path / "store"), env=env) as store:
        arrange(store, ITEMS, "layered")
        env.before_sync = fail
        loaded = {b"loaded": b"1", b"too": b"2"}
        with pytest.raises(OSError, match="the disk fails"):
            match call:
                case "put":
                    store.put(b"new", b"new")
                case "batch":
                    with store.batch() as batch:
                        batch.put(b"new", b"new")
                        batch.delete(b"a")
                case "flush":
                    store.put(b"new", b"new", sync=False)
                    store.flush()
                case "load":
                    store.load(sorted(loaded.items()))
        retried: list[str] = []
        env.before_sync = retried.append
        for name, later in calls_on(store).items():
            with pytest.raises(StoreFailed, match="the disk fails") as refusal:
                later()
                pytest.fail(f"{name} was answered after a failed sync")
            assert isinstance(refusal.value.__cause__, OSError)
        store.close()
        with pytest.raises(StoreClosed):
            store.get(b"a")
    assert retried == [], "a second sync may succeed without the data that the first one lost"
    after = ITEMS | {b"new": b"new"}
    if call == "batch":
        del after[b"a"]
    with engine.open(str(tmp_path / "store"), env=env) as store:
        assert dict(store.scan()) in (ITEMS, loaded if call == "load" else after)
        assert store.check() == []
        store.put(b"and on", b"it goes")


@pytest.mark.persistent
@pytest.mark.parametrize("write", ["put", "load"])
def test_readers_do_not_wait_for_the_writer(engine: Engine, tmp_path: Path, write: str) -> None:
    """Contract 4: while a write is stuck in its sync, every read is answered, and none of them sees half of it."""
    env = HookedEnv()
    stuck, go_on = threading.Event(), threading.Event()
    sites: list[str] = []

    def wait(site: str) -> None:
        sites.append(site)
        stuck.set()
        assert go_on.wait(PATIENCE_S)

    def write_it() -> None:
        try:
            if write == "load":
                store.load([(b"loaded", b"1")])
            else:
                with store.batch() as batch:
                    batch.put(b"a", b"new")
                    batch.put(b"b", b"new")
        finally:
            stuck.set()  # or else a write that makes no sync would be waited for

    def read() -> None:
        with store.snapshot() as snapshot:
            answers.append(snapshot.multi_get([b"a", b"b"]))
            answers.append([dict(snapshot.scan(reverse=True)).get(key) for key in (b"a", b"b")])
        answers.append([dict(store.scan()).get(key) for key in (b"a", b"b")])
        answers.append([store.get(b"\xff"), store.multi_get([b"zz", b"\xff"])[1]])

    with engine.open(str(tmp_path / "store"), env=env) as store:
        arrange(store, ITEMS, "layered")
        answers: list[list[bytes | None]] = []
        env.before_sync = wait
        writer, reader = threading.Thread(target=write_it), threading.Thread(target=read)
        writer.start()
        stuck.wait(PATIENCE_S)
        reader.start()
        try:
            assert sites, GOES_PAST
            reader.join(PATIENCE_S)
            assert not reader.is_alive(), "the reader waits for the writer"
        finally:
            go_on.set()
            writer.join()
            reader.join()
        old = [ITEMS[b"a"], ITEMS[b"b"]]
        new = [None, None] if write == "load" else [b"new", b"new"]
        assert all(answer in (old, new) for answer in answers[:3])
        assert answers[3] in ([ITEMS[b"\xff"]] * 2, [None] * 2 if write == "load" else None)
        assert [store.get(b"a"), store.get(b"b")] == new

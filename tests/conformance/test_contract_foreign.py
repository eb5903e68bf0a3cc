"""The contract's first point on other programs' stores: what a scan shows can be read and deleted, whatever its key.

LevelDB and Riak take the empty key, LevelDB keys of any length and Riak of 65,535 bytes; our put and load take 1 to
32,768 bytes (tests/conformance/test_contract_values.py).
"""

from __future__ import annotations

import re

import pytest

from engines import ForeignFormat, KVStore, WrongEngine
from engines.simenv import SimEnv
from server import inspect
from server.store_check import NotRecognised
from tests.conformance.engine_table import Engine
from tests.conformance.foreign import FOREIGN, Scene

pytestmark = pytest.mark.persistent
PATH = "/dir/store"


def made(scene: Scene) -> SimEnv:
    env = SimEnv()
    env.makedirs("/dir", "test")
    scene.make(env, PATH)
    return env


def readable(engine: Engine) -> list[Scene]:
    return [scene for scene in FOREIGN.get(engine.where, []) if scene.pairs is not None]


def opened(engine: Engine, scene: Scene, env: SimEnv, **options: object) -> KVStore:
    return engine.open(PATH, env=env, **{**scene.options, **options})


def test_what_a_scan_of_a_foreign_store_shows_can_be_read(engine: Engine) -> None:
    """get, in, multi_get, on the store and on a snapshot, before and after everything has been rewritten."""
    for scene in readable(engine):
        assert scene.pairs is not None
        with opened(engine, scene, made(scene)) as store:
            for settle in (lambda: None, store.flush, store.compact):
                settle()
                with store.snapshot() as snapshot:
                    for reader in (store, snapshot):
                        assert dict(reader.scan()) == scene.pairs
                        assert {key: reader.get(key) for key in scene.pairs} == scene.pairs
                        assert all(key in reader for key in scene.pairs)
                        assert reader.multi_get(scene.pairs) == list(scene.pairs.values())
                assert store.check() == []


@pytest.mark.parametrize("how", ["delete", "batch"])
def test_what_a_scan_of_a_foreign_store_shows_can_be_deleted(engine: Engine, how: str) -> None:
    """One by one and in a batch; it stays gone through flush, compact and reopening."""
    for scene in readable(engine):
        assert scene.pairs is not None
        env = made(scene)
        with opened(engine, scene, env) as store:
            keys = [key for key, _ in store.scan()]
            if how == "delete":
                for key in keys:
                    store.delete(key)
                    assert store.get(key) is None
            else:
                with store.batch() as batch:
                    for key in keys:
                        batch.delete(key)
            for settle in (lambda: None, store.flush, store.compact):
                settle()
                assert list(store.scan()) == []
                assert store.multi_get(keys) == [None] * len(keys)
                assert store.check() == []
        with opened(engine, scene, env) as store:
            assert list(store.scan()) == []


def test_no_other_engine_takes_a_foreign_store(engine: Engine) -> None:
    """Neither by recognising it nor by opening it, which would make a second store in the same directory. (What an
    engine of one's own recognises is its own business.)"""
    for where, scenes in FOREIGN.items() if engine.registered else ():
        for scene in scenes:
            env = made(scene)
            before = env.files()
            if where != engine.where:
                assert not engine.store_class.recognises(PATH, env)
                with pytest.raises((WrongEngine, ForeignFormat)):
                    engine.open(PATH, env=env)
            elif scene.refused:
                assert not engine.store_class.recognises(PATH, env)
                with pytest.raises(ForeignFormat):
                    engine.open(PATH, env=env)
            assert {path: content for path, content in env.files().items() if not path.endswith("LOCK")} == {
                path: content for path, content in before.items() if not path.endswith("LOCK")
            }


def test_every_foreign_store_is_shown(engine: Engine) -> None:
    """`metcd dump`, without a word about the engine: sound ones and those that can't be opened, as far as the format is
    known; and `metcd check` says of those whose they are, not that they are damaged."""
    for scene in FOREIGN.get(engine.where, []):
        env = made(scene)
        assert list(inspect.dump(PATH, None, env)), scene.name
        if scene.refused:
            with pytest.raises(NotRecognised) as refusal:
                inspect.check(PATH, None, env)
            assert not re.search("damage|corrupt|repair", str(refusal.value)), scene.name

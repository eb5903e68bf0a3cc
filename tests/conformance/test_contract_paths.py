"""The contract on where a store is: any kind of path, made absolute at once; and creating none where none was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

import engines
from engines import KVStore, NoSuchStore
from engines.env import real_env
from engines.simenv import SimEnv
from tests.conformance.engine_table import Engine


def fill(store: KVStore, value: bytes, first: int, count: int) -> None:
    for number in range(first, first + count):
        store.put(b"key%05d" % number, value * 40)


def test_a_path_may_be_an_object(engine: Engine, tmp_path: Path) -> None:
    """os.PathLike: in engines.open, in the constructor, in `which` and in `recognises` by way of it."""
    with engine.open(tmp_path / "store", sync=False) as store:
        store.put(b"a", b"1")
        store.compact()
        assert store.path == str(tmp_path / "store")
    if engine.registered and engine.persistent:
        assert engines.which(tmp_path / "store") == engine.name
        assert engine.store_class.recognises(tmp_path / "store", real_env())
        assert list(engine.store_class.dump(tmp_path / "store", real_env()))
    with engine.store_class(tmp_path / "other", sync=False) as other:  # type: ignore[call-arg]
        assert other.path == str(tmp_path / "other")


def test_a_store_stays_where_it_is_after_a_chdir(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Env.absolute: a relative path means what it meant when the store was opened, for later files too; another store
    of the same relative name isn't touched."""
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
    with engine.open(str(tmp_path / "there/data"), sync=False) as other:
        fill(other, b"o", 0, 400)
    monkeypatch.chdir(tmp_path / "here")
    with engine.open("data", sync=False) as store:
        fill(store, b"m", 0, 200)
        monkeypatch.chdir(tmp_path / "there")
        fill(store, b"m", 200, 800)
        store.compact()
        assert (len(list(store.scan())), store.check()) == (1000, [])
    if engine.persistent:
        for place, value, count in (("here", b"m", 1000), ("there", b"o", 400)):
            with engine.open(str(tmp_path / place / "data")) as again:
                assert {pair[1] for pair in again.scan()} == {value * 40}
                assert (len(list(again.scan())), again.check()) == (count, [])
    assert engines.which("data", real_env()) == (engine.name if engine.registered and engine.persistent else None)


def test_a_store_shows_its_engine_and_its_place(engine: Engine, tmp_path: Path) -> None:
    """repr(store): for the prompt and for logs."""
    store = engine.open(str(tmp_path / "store"), sync=False)
    assert repr(store) == f"<{store.name} store at {tmp_path}/store>"
    store.close()
    assert repr(store) == f"<{store.name} store at {tmp_path}/store, closed>"


@pytest.mark.read_only
def test_no_store_is_created_where_none_was_wanted(engine: Engine) -> None:
    """create=False: NoSuchStore, which is a FileNotFoundError too, and nothing is made; with a store there, it opens."""
    env = SimEnv()
    env.makedirs("/dir", "test")
    for path in ("/dir/store", "/dir"):
        with pytest.raises(NoSuchStore, match=f"there is no store at {path}") as refusal:
            engine.open(path, env=env, create=False)
        assert isinstance(refusal.value, FileNotFoundError)
        assert env.list("/dir") == []
    if engine.persistent:
        with engine.open("/dir/store", env=env) as store:
            store.put(b"a", b"1")
        with engine.open("/dir/store", env=env, create=False) as store:
            assert store.get(b"a") == b"1"

"""engines/__init__.py: how an engine is found, by its name, its files, its entry point, or where its class is."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import engines
from engines import KVStore, UnknownEngine, WrongEngine
from engines.env import real_env
from engines.memory import MemoryStore

OWN_ENGINE = '''
"""A learner's engine."""

from __future__ import annotations

from dataclasses import dataclass

from engines.memory import MemoryStore


@dataclass
class Note:
    text: str


class Mine(MemoryStore):
    name = "mine"
    persistent = True

    def __init__(self, path, *, env=None, sync=True, colour="red"):
        super().__init__(path, env=env, sync=sync)
        self.note = Note(colour)
        self._env = env
        if not env.exists(f"{path}/MINE"):
            env.open(f"{path}/MINE", "w").close()

    @classmethod
    def recognises(cls, path, env):
        return env.exists(f"{path}/MINE")


class NoEngine:
    pass


not_even_a_class = 1
'''


@pytest.fixture
def own_engine(tmp_path: Path) -> str:
    """The path of a file with a learner's engine."""
    (tmp_path / "my_engine.py").write_text(OWN_ENGINE)
    return f"{tmp_path}/my_engine.py"


def test_every_registered_engine_is_one() -> None:
    """ENGINES: name → where; the class says the same name."""
    for name in engines.ENGINES:
        found = engines.engine_class(name)
        assert issubclass(found, KVStore)
        assert found.name == name


def test_an_engine_is_swapped_by_one_word(tmp_path: Path) -> None:
    """engines.open: path, name, options."""
    with engines.open(f"{tmp_path}/store", engine="memory", sync=False) as store:
        assert type(store) is MemoryStore
        store.put(b"a", b"1")
        assert store.get(b"a") == b"1"


def test_an_engine_is_named_by_its_module() -> None:
    """ "module:Class"."""
    assert engines.engine_class("engines.memory:MemoryStore") is MemoryStore


def test_an_engine_is_named_by_its_file(own_engine: str, tmp_path: Path) -> None:
    """ "path/to/file.py:Class", with its options; the class is the same each time."""
    with engines.open(f"{tmp_path}/store", engine=f"{own_engine}:Mine", colour="blue") as store:
        assert store.name == "mine"
        assert store.note.text == "blue"  # type: ignore[attr-defined]
    assert engines.engine_class(f"{own_engine}:Mine") is engines.engine_class(f"{own_engine}:Mine")
    with engines.open(f"{tmp_path}/store", engine=f"{own_engine}:Mine") as store:
        assert isinstance(store, engines.engine_class(f"{own_engine}:Mine"))


def test_a_relative_file_is_found_from_here(own_engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a learner types it."""
    monkeypatch.chdir(tmp_path)
    assert engines.engine_class("my_engine.py:Mine") is engines.engine_class(f"{own_engine}:Mine")


def test_a_file_hides_no_module_of_its_name(tmp_path: Path) -> None:
    """A learner's json.py is a learner's json.py."""
    import json

    (tmp_path / "json.py").write_text(OWN_ENGINE)
    assert engines.engine_class(f"{tmp_path}/json.py:Mine").name == "mine"
    import json as again

    assert again is json
    assert again.dumps([1]) == "[1]"


def test_a_file_with_an_error_tells_its_own_error_each_time(tmp_path: Path) -> None:
    """A mistake in a learner's file is theirs to see, with its traceback; it isn't hidden the second time."""
    (tmp_path / "broken.py").write_text("raise ZeroDivisionError('in line one')")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="in line one"):
            engines.engine_class(f"{tmp_path}/broken.py:Mine")


def test_an_entry_point_is_an_engine(own_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution registers one under the group "metcd.engines"."""
    points = EntryPoints([EntryPoint("mine", f"{own_engine}:Mine", "metcd.engines")])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: points.select(**wanted))
    assert engines.engine_class("mine").name == "mine"
    with pytest.raises(UnknownEngine):
        engines.engine_class("yours")


def test_a_registered_name_comes_before_an_entry_point(own_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes `memory` away by installing something."""
    points = EntryPoints([EntryPoint("memory", f"{own_engine}:Mine", "metcd.engines")])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: points.select(**wanted))
    assert engines.engine_class("memory") is MemoryStore


def test_an_unknown_name_is_told_what_is_known() -> None:
    """One sentence: what was asked, what there is, and what else can be said."""
    with pytest.raises(UnknownEngine, match=r"an engine's name is text, and this is None: there is memory, lsm"):
        engines.options(None)  # type: ignore[arg-type]
    with pytest.raises(UnknownEngine, match=r"no engine is called 'rocks': there is .*memory.*'module:Class'"):
        engines.engine_class("rocks")
    assert issubclass(UnknownEngine, LookupError)


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("engines.nowhere:Store", "No module named"),
        ("engines.memory:NoStore", "NoStore"),
        ("nowhere.py:Store", "nowhere.py"),
        ("engines.memory:CHUNKS", "is no engine: it must be a class derived from engines.KVStore"),
        ("engines.errors:StoreError", "is no engine: it must be a class derived from engines.KVStore"),
        (":Store", "is no module's absolute name"),
        (".memory:MemoryStore", "is no module's absolute name"),
        ("engines.memory:", "can't be imported from engines.memory:"),
        ("", "no engine is called ''"),
    ],
)
def test_what_cannot_be_imported_is_unknown(engine: str, told: str) -> None:
    """Whatever is wrong with the place, it is UnknownEngine and says what."""
    with pytest.raises(UnknownEngine) as refusal:
        engines.engine_class(engine)
    assert told in str(refusal.value)


def test_a_file_that_is_no_python_is_unknown(tmp_path: Path) -> None:
    """A half-written engine is a sentence with its line, and no traceback."""
    (tmp_path / "mine.py").write_text("class Mine(\n")
    with pytest.raises(UnknownEngine, match=r"can't be imported .*mine\.py, line 1"):
        engines.engine_class(f"{tmp_path}/mine.py:Mine")


@pytest.mark.parametrize("thing", ["NoEngine", "not_even_a_class", "missing"])
def test_a_file_without_the_engine_is_unknown(own_engine: str, thing: str) -> None:
    """The file is there; what it is asked for isn't, or is no engine."""
    with pytest.raises(UnknownEngine):
        engines.engine_class(f"{own_engine}:{thing}")


def test_which_says_whose_files_these_are(own_engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """engines.which, the precedent of dbm.whichdb; it changes nothing."""
    monkeypatch.setitem(engines.ENGINES, "mine", f"{own_engine}:Mine")
    path = f"{tmp_path}/store"
    assert engines.which(path) is None
    assert not Path(path).exists()
    Path(path).mkdir()
    (Path(path) / "holiday.jpg").write_bytes(b"")
    assert engines.which(path) is None
    engines.open(path, "mine").close()
    assert engines.which(path) == engines.which(path, real_env()) == "mine"


def test_another_engines_files_are_refused(own_engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """WrongEngine: which engine's they are, which was asked for, and what to say instead."""
    monkeypatch.setitem(engines.ENGINES, "mine", f"{own_engine}:Mine")
    path = f"{tmp_path}/store"
    engines.open(path, "mine").close()
    with pytest.raises(WrongEngine, match=r"was written by the engine 'mine', not 'memory'.*engine='mine'") as refusal:
        engines.open(path, "memory")
    assert (refusal.value.path, refusal.value.found, refusal.value.asked) == (path, "mine", "memory")
    engines.open(path, "mine").close()
    engines.open(path, f"{own_engine}:Mine").close()


def test_the_public_names_are_there() -> None:
    """`from engines import ...` what __all__ promises."""
    for name in engines.__all__:
        assert getattr(engines, name) is not None

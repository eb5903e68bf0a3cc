"""Storage engines behind one contract.

    import engines
    with engines.open("data", engine="lsm") as store:
        store.put(b"hello", b"world")
        for key, value in store.scan(prefix=b"h"):
            ...

| engine    | structure              | files of            | best at                        |
|-----------|------------------------|---------------------|--------------------------------|
| `memory`  | a sorted map           | nobody: it has none | being the model for the others |
| `lsm`     | log-structured merge   | LevelDB             | writing                        |
| `btree`   | copy-on-write B+tree   | bbolt               | reading, and scans             |
| `bitcask` | a log and a hash index | Riak                | point reads and writes         |

`open` and `which` are the precedent of the standard library's `dbm`: swap the engine by changing one word, and ask
what wrote a directory. An engine is named by a name of this registry, by an entry point of the group `metcd.engines`,
or by where its class is: `"package.module:Class"`, `"path/to/file.py:Class"`. `options("lsm")` tells what an engine can
be told when it is opened; editors and mypy know it too.

`engines.kvstore` has the contract, `engines.env` the door to the disk, `engines.errors` what can go wrong.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from engines.env import Env, StorePath, real_env
from engines.errors import (
    CorruptionError,
    ForeignFormat,
    InvalidKey,
    InvalidOption,
    InvalidValue,
    NoSuchStore,
    ReadOnly,
    ReservedValue,
    StoreChanged,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreForked,
    StoreLocked,
    UnknownEngine,
    WrongEngine,
)
from engines.keywords import BitcaskKeywords, BTreeKeywords, EngineKeywords, LsmKeywords, MemoryKeywords
from engines.kvstore import KVStore, MappingView, Reader, Snapshot, Stats, WriteBatch
from engines.options import Option, check_names, options_of_constructor

if TYPE_CHECKING:
    from engines.bitcask import BitcaskStore
    from engines.btree import BTreeStore
    from engines.lsm import LsmStore
    from engines.memory import MemoryStore

__all__ = [
    "ENGINES",
    "CorruptionError",
    "ForeignFormat",
    "InvalidKey",
    "InvalidOption",
    "InvalidValue",
    "KVStore",
    "MappingView",
    "NoSuchStore",
    "Option",
    "ReadOnly",
    "Reader",
    "ReservedValue",
    "Snapshot",
    "Stats",
    "StoreChanged",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreForked",
    "StoreLocked",
    "UnknownEngine",
    "WriteBatch",
    "WrongEngine",
    "claimed",
    "engine_class",
    "open",
    "options",
    "which",
]

# name → "module:Class"; the module is imported when its engine is first asked for
ENGINES = {
    "memory": "engines.memory:MemoryStore",
    "lsm": "engines.lsm:LsmStore",
    "btree": "engines.btree:BTreeStore",
    "bitcask": "engines.bitcask:BitcaskStore",
}
ENTRY_POINTS = "metcd.engines"


def engine_class(engine: str) -> type[KVStore]:
    """The class of an engine, by name, entry point, "module:Class" or "path/to/file.py:Class".

    Raises UnknownEngine, with a sentence that says what is known or what failed.
    """
    if not isinstance(engine, str):  # a typo must not end in a TypeError of this module's
        raise UnknownEngine(f"an engine's name is text, and this is {engine!r}: there is {_known()}")
    where = ENGINES.get(engine)
    if where is None and ":" in engine:
        where = engine
    if where is None:
        import importlib.metadata  # 20 ms, for a name that is rarely asked for

        for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=engine):
            where = point.value
    if where is None:
        raise UnknownEngine(f"no engine is called {engine!r}: there is {_known()}, or give one as 'module:Class'")
    module_name, _, class_name = where.rpartition(":")
    try:
        found = getattr(_import(module_name), class_name)
    except (ImportError, SyntaxError, AttributeError, OSError) as error:
        raise UnknownEngine(f"the engine {engine!r} can't be imported from {where}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, KVStore)):
        raise UnknownEngine(f"{where} is no engine: it must be a class derived from engines.KVStore")
    return found


def _known() -> str:
    return ", ".join(ENGINES)


def _import(module: str) -> Any:
    """Imports a module by its name, or from a path that ends in .py; the same module each time."""
    if not module.endswith(".py"):
        if not module or module.startswith("."):
            raise ImportError(f"{module!r} is no module's absolute name")
        return importlib.import_module(module)
    found = importlib.util.spec_from_file_location("engine", module)
    assert found is not None and found.origin is not None, "a name that ends in .py is a Python file's"
    name = found.origin  # the absolute path, which no module of another kind is called
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, name)
        assert spec is not None and spec.loader is not None
        loaded = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def options(engine: str) -> dict[str, Option]:
    """What the engine can be told when it is opened: each option's type, default and meaning, by name.

    `print(*engines.options("lsm").values(), sep="\\n")` shows all of them. Raises UnknownEngine.
    """
    store_class = engine_class(engine)
    declared = options_of_constructor(store_class)
    if declared is None and store_class.option_class is not None:
        declared = store_class.option_class.described()
    return declared or {}


def which(path: StorePath, env: Env | None = None) -> str | None:
    """The name of the engine whose files are at `path`; None if there are none, or nobody's. Changes nothing."""
    env = env or real_env()
    path = env.absolute(path)
    for name in ENGINES:
        if engine_class(name).recognises(path, env):
            return name
    return None


def claimed(path: StorePath, env: Env | None = None) -> tuple[str, StoreError] | None:
    """An engine that finds its format at `path` and can't open it, damaged or foreign; and what it says. Changes nothing.

    For paths that nobody recognises. A file by itself is claimed as foreign only: damaged, it might be anybody's. If
    nobody claims it, StoreLocked counts: another program has open there what can't be looked at until it is closed.
    """
    env = env or real_env()
    path = env.absolute(path)
    locked: tuple[str, StoreError] | None = None
    for name in ENGINES:
        if "read_only" not in options(name):
            continue
        make: Any = engine_class(name)
        try:
            make(path, env=env, read_only=True).close()
        except (ForeignFormat, CorruptionError) as error:
            if isinstance(error, ForeignFormat) or env.is_dir(path):
                return name, error
        except StoreLocked as error:
            locked = locked or (name, error)
        except (StoreError, OSError):
            continue
    return locked


@overload
def open(
    path: StorePath, engine: Literal["lsm"] = "lsm", *, env: Env | None = None, **options: Unpack[LsmKeywords]
) -> LsmStore: ...


@overload
def open(
    path: StorePath, engine: Literal["memory"], *, env: Env | None = None, **options: Unpack[MemoryKeywords]
) -> MemoryStore: ...


@overload
def open(
    path: StorePath, engine: Literal["btree"], *, env: Env | None = None, **options: Unpack[BTreeKeywords]
) -> BTreeStore: ...


@overload
def open(
    path: StorePath, engine: Literal["bitcask"], *, env: Env | None = None, **options: Unpack[BitcaskKeywords]
) -> BitcaskStore: ...


# an engine that is only known when the program runs: the options of all, and others as **dictionary
@overload
def open(path: StorePath, engine: str, *, env: Env | None = None, **options: Unpack[EngineKeywords]) -> KVStore: ...


def open(path: StorePath, engine: str = "lsm", *, env: Env | None = None, **options: Any) -> KVStore:
    """Opens the store at `path`, which is created if nothing is there.

    `options` are the engine's own: `engines.options(engine)` tells them. Raises UnknownEngine, InvalidOption,
    WrongEngine if another engine's files are there, ForeignFormat if they are another program's, StoreLocked,
    CorruptionError, OSError.
    """
    store_class = engine_class(engine)
    declared = options_of_constructor(store_class)
    if declared is not None:
        check_names(store_class.name, declared, options)
    env = env or real_env()
    path = env.absolute(path)
    found = which(path, env)
    if found is not None and not issubclass(store_class, engine_class(found)):
        raise WrongEngine(path, found, engine)
    if found is None and env.exists(path):
        _check_nobodys(path, engine, store_class, env)
    store = store_class(path, env=env, **options)  # type: ignore[call-arg]
    if not store.was_opened:  # an engine of somebody's own that leaves it to us
        store.opened(env)
    return store


def _check_nobodys(path: str, engine: str, asked: type[KVStore], env: Env) -> None:
    """Raises if another engine than the one that is asked for knows what lies at the path, and it isn't a store of its.

    Without it, RocksDB's directory could become a Bitcask's, too.
    """
    if (claim := claimed(path, env)) is None or issubclass(asked, engine_class(claim[0])):
        return
    if isinstance(claim[1], ForeignFormat):
        raise claim[1]
    if asked in map(engine_class, ENGINES):  # an engine of somebody's own may have files of such names, too
        if isinstance(claim[1], StoreLocked):
            raise claim[1]
        raise WrongEngine(path, claim[0], engine) from claim[1]

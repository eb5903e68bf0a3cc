"""One history under twenty sets of options: what a store answers must not depend on how it is built.

After Pebble's metamorphic tests: the operations are drawn once from the seed, and every set of options, most of them
absurdly small, must give the same answers to all of them, reopening included. In the fast tier one short history; long
ones with `-m slow`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import KVStore, Snapshot
from engines.errors import InvalidOption
from engines.lsm import snappy
from engines.simenv import SimEnv
from tests.crash.machine import SEED

TINY: dict[str, Any] = {
    "write_buffer_bytes": 2_000,
    "max_file_bytes": 1_000,
    "block_bytes": 128,
    "level_base_bytes": 4_000,
    "background": False,
}
OPTION_SETS: dict[str, dict[str, Any]] = {
    "defaults": {"background": False},
    "tiny": TINY,
    "tiny, sorted memtable": TINY | {"memtable": "sorted"},
    "one entry a block": TINY | {"block_bytes": 1},
    "one block a table": TINY | {"max_file_bytes": 1},
    "one write a memtable": TINY | {"write_buffer_bytes": 1},
    "one entry everywhere": TINY | {"write_buffer_bytes": 1, "max_file_bytes": 1, "block_bytes": 1},
    "no cache": TINY | {"cache_bytes": 0},
    "a cache of a few blocks": TINY | {"cache_bytes": 4_000},
    "one open file": TINY | {"max_open_files": 1},
    "no filter": TINY | {"filter": None},
    "LevelDB's filter": TINY | {"filter": "leveldb"},
    "a bit a key": TINY | {"bloom_bits_per_key": 1},
    "LevelDB's bytes": TINY | {"filter": None, "table_statistics": False},
    "every key in full": TINY | {"block_restart_interval": 1},
    "one restart a block": TINY | {"block_restart_interval": 1_000},
    "level 0 of one": TINY | {"level0_files": 1},
    "levels of nothing": TINY | {"level_base_bytes": 1},
    "a high level 0": TINY | {"level0_files": 50, "level0_slowdown_files": 50, "level0_stop_files": 50},
    "no score for tombstones": TINY | {"tombstone_ratio": None},
    "any tombstone counts": TINY | {"tombstone_ratio": 0.01},
    "two threads": TINY | {"background": True, "level0_slowdown_files": 11},
    "two threads, sorted": {"background": True, "memtable": "sorted", "write_buffer_bytes": 5_000},
}
if snappy.can_compress():
    OPTION_SETS["snappy"] = TINY | {"compression": "snappy"}


def operations(rng: random.Random, count: int) -> list[tuple[Any, ...]]:
    """What is done, as data: the same for every set of options."""
    made: list[tuple[Any, ...]] = []
    kinds = ["put"] * 50 + ["delete"] * 20 + ["batch"] * 10 + ["get"] * 20 + ["scan"] * 6 + ["snapshot"] * 2
    kinds += ["drop"] * 2 + ["flush", "compact", "compact_range", "reopen", "load"]
    for number in range(count):
        kind = rng.choice(kinds)
        key, other = b"%03d" % rng.randrange(150), b"%03d" % rng.randrange(150)
        value = b"%d" % number * rng.choice((1, 1, 5, 40))
        if kind == "batch":
            made.append((kind, [(b"%03d" % rng.randrange(150), rng.choice((value, None))) for _ in range(8)]))
        elif kind == "scan":
            made.append((kind, min(key, other), max(key, other), rng.random() < 0.5))
        elif kind == "load":
            made.append((kind, [(b"%03d" % each, value) for each in sorted(rng.sample(range(150), 30))]))
        else:
            made.append((kind, key, max(key, other), value))
    return made


def history(path: Path, todo: list[tuple[Any, ...]], options: dict[str, Any]) -> list[Any]:
    """Does the operations, and notes every answer: on a simulated disk, whose syncs are free, if one thread is enough."""
    answers: list[Any] = []
    env = None if options.get("background") else SimEnv(SEED)
    store: KVStore = engines.open(str(path), "lsm", env=env, sync=False, **options)
    snapshots: list[Snapshot] = []
    for kind, *arguments in todo:
        if kind == "reopen":
            store.close()
            snapshots.clear()
            store = engines.open(str(path), "lsm", env=env, sync=False, **options)
        else:
            answers.append((kind, do(store, snapshots, kind, arguments)))
    assert store.check() == []
    answers.append(list(store.scan()))
    store.close()
    return answers


def do(store: KVStore, snapshots: list[Snapshot], kind: str, arguments: list[Any]) -> Any:
    if kind == "put":
        store.put(arguments[0], arguments[2])
    elif kind == "delete":
        store.delete(arguments[0])
    elif kind == "batch":
        with store.batch() as batch:
            for key, value in arguments[0]:
                batch.delete(key) if value is None else batch.put(key, value)
    elif kind == "get":
        return [reader.get(arguments[0]) for reader in (store, *snapshots)]
    elif kind == "scan":
        start, stop, reverse = arguments
        return [list(reader.scan(start, stop, reverse=reverse)) for reader in (store, *snapshots)]
    elif kind == "snapshot":
        snapshots.append(store.snapshot())
    elif kind == "drop" and snapshots:
        snapshots.pop(0).close()
    elif kind in ("flush", "compact"):
        getattr(store, kind)()
    elif kind == "compact_range":
        store.compact_range(arguments[0], arguments[1])  # type: ignore[attr-defined]
    elif kind == "load":
        store.load(arguments[0])
    return None


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """The operations, and what the defaults answer; a model agrees (tests/conformance)."""
    todo = operations(random.Random(SEED), 500)
    return todo, history(tmp_path_factory.mktemp("defaults"), todo, OPTION_SETS["defaults"])


@pytest.mark.parametrize("name", [name for name in OPTION_SETS if name != "defaults"])
def test_answers_do_not_depend_on_options(
    tmp_path: Path, expected: tuple[list[tuple[Any, ...]], list[Any]], name: str
) -> None:
    todo, answers = expected
    compare(history(tmp_path, todo, OPTION_SETS[name]), answers)


def compare(mine: list[Any], theirs: list[Any]) -> None:
    """Raises AssertionError at the first answer that differs."""
    for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        assert one == other, f"answer {number} differs from that under the defaults"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OPTION_SETS if name != "defaults"])
def test_answers_do_not_depend_on_options_for_long(tmp_path: Path, name: str) -> None:
    """Two histories of 4,000 operations each."""
    for part in range(2):
        todo = operations(random.Random(f"{SEED} {part}"), 4_000)
        expected = history(tmp_path / f"expected {part}", todo, OPTION_SETS["defaults"])
        compare(history(tmp_path / f"{part}", todo, OPTION_SETS[name]), expected)


def test_there_are_twenty_sets_of_options() -> None:
    assert len(OPTION_SETS) >= 20


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"memtable": "tree"}, "wants memtable to be 'skiplist' or 'sorted', and this is 'tree'"),
        ({"block_bytes": 0}, "wants block_bytes to be an integer of at least 1, and this is 0"),
        ({"write_buffer": 5}, "no option 'write_buffer'"),
        ({"level0_files": 21}, "level0_files <= level0_slowdown_files"),
        (
            {"tombstone_ratio": 1.5},
            "wants tombstone_ratio to be a number above 0 and at most 1 or None, and this is 1.5",
        ),
        ({"compression": "zstd"}, "wants compression to be 'keep', 'snappy' or None, and this is 'zstd'"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    """InvalidOption: nothing was opened, nothing was made."""
    with pytest.raises(InvalidOption, match=why):
        engines.open(str(tmp_path / "store"), "lsm", **options)
    assert not (tmp_path / "store").exists()

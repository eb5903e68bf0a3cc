"""One store, written by turns: by a real LevelDB's program, and by our engine. After each turn both must read it alike."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engines
from engines.lsm.store import LsmStore
from tests.interop.leveldb_tools import Content, LevelDB, apply_to, level_numbers, random_operations

__all__ = ["Turns", "copied", "ours"]


def ours(path: Path, **options: Any) -> LsmStore:
    """Our engine on the directory."""
    store = engines.open(path, "lsm", **options)
    assert isinstance(store, LsmStore)
    return store


def copied(directory: Path, copy: Path) -> Path:
    """`copy`, which has the same files now."""
    shutil.copytree(directory, copy)
    return copy


@dataclass(frozen=True)
class Turns:
    """The program with its flags, and our store with its options, on the directory `path`."""

    path: Path
    program: LevelDB
    options: dict[str, Any]
    flags: tuple[str, ...] = ()

    def play(self, rng: random.Random, turns: int, operations: int, their_compaction: int) -> None:
        """Ours has the even turns, and compacts in turn 4; the program has the odd ones, and compacts in one of them."""
        content: Content = {}
        for turn in range(turns):
            todo = random_operations(rng, content, operations)
            if turn % 2:
                self.program.apply(self.path, todo, *self.flags)
                if turn == their_compaction:
                    self.their_compaction()
            else:
                with ours(self.path, **self.options) as store:
                    apply_to(store, todo)
                    if turn == 4:
                        store.compact()
                        assert store.stats().engine["compactions"] > 0
            assert level_numbers(self.path), "the turn must have made tables"
            self.both_read(content)

    def their_compaction(self) -> None:
        """The program compacts everything."""
        before = level_numbers(self.path)
        self.program.run("compact", self.path)
        after = level_numbers(self.path)
        assert 0 not in after and after != before, "the compaction must have taken place"

    def both_read(self, content: Content) -> None:
        """The same pairs, by scans in both directions and by gets."""
        assert self.program.dump(self.path) == content
        with ours(self.path, **self.options) as store:
            assert list(store.scan()) == sorted(content.items())
            assert list(store.scan(reverse=True)) == sorted(content.items(), reverse=True)
            assert store.multi_get(content) == list(content.values())
            assert store.check() == []

"""Raft with one rule left out: bugs that real implementations had, each a small patch, and what finds it.

    python -m tests.raft.mutants                a table: what caught each, and after how many seeds
    python -m tests.raft.mutants NAME --seeds 5000

A random run that can't fail proves nothing. Each patch in mutants/ is planted in a private copy of the library (imported
from patched sources, beside the real one), and has to be found by the simulator within 2,000 seeds, or else by a unit
test or an interaction script on a patched copy of the repository.

A patch is a unified diff without line numbers: what it takes away has to be in the file exactly once, wherever that is.
The text before the first file says which rule is left out, and who suffered from it. "Sample: yes" marks those that a
few seeds find; the fast tier plays these. "Rare: yes" marks those that 200 seeds didn't find: the tests are asked first.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["MUTANTS", "SEEDS", "Caught", "Mutant", "hunt", "parse", "planted"]

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("mutants")
SEEDS = 2_000
UNIT_TESTS = ["tests/raft", "--ignore=tests/raft/test_mutants.py", "--ignore=tests/raft/test_simulator.py"]


@dataclass(frozen=True)
class Hunk:
    """One place of one file: what stands there, and what the mutant has instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One planted bug. why: the rule that is left out. sample, rare: whether a few seeds find it, or 200 don't."""

    name: str
    why: str
    sample: bool
    rare: bool
    hunks: tuple[Hunk, ...]

    def sources(self) -> dict[str, str]:
        """The patched text of each file. Raises `LookupError` if the library no longer has what is to be replaced."""
        texts: dict[str, str] = {}
        for hunk in self.hunks:
            text = texts.get(hunk.path) or (REPOSITORY / hunk.path).read_text("utf-8")
            if text.count(hunk.old) != 1:
                raise LookupError(
                    f"mutants/{self.name}.patch: {hunk.path} has {text.count(hunk.old)} times what the patch expects "
                    f"once; write the patch for the file as it is now:\n{hunk.old}"
                )
            texts[hunk.path] = text.replace(hunk.old, hunk.new)
        return texts


def parse(name: str, text: str) -> Mutant:
    """A mutant from the text of its patch."""
    head, _, rest = text.partition("\n--- ")
    hunks = []
    for file in f"\n{rest}".split("\n--- "):
        path, *parts = file.strip("\n").split("\n@@\n")
        for part in parts:
            lines = part.split("\n")
            old = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
            new = "".join(line[1:] + "\n" for line in lines if not line.startswith("-"))
            hunks.append(Hunk(path.strip(), old, new))
    assert hunks, f"mutants/{name}.patch has no hunk"
    sample, rare = head.endswith("\nSample: yes"), head.endswith("\nRare: yes")
    why = head.removesuffix("\nSample: yes").removesuffix("\nRare: yes").strip()
    return Mutant(name, why, sample, rare, tuple(hunks))


MUTANTS = [parse(path.stem, path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.patch"))]


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the patched modules from their patched sources; leaves all others to the usual way."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = {path.removesuffix(".py").replace("/", "."): (path, text) for path, text in texts.items()}
        self.planted: set[str] = set()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in self.texts else None

    def exec_module(self, module: ModuleType) -> None:
        path, text = self.texts[module.__name__]
        self.planted.add(module.__name__)
        exec(compile(text, path, "exec"), module.__dict__)

    def get_source(self, fullname: str) -> str:
        """As a loader of files has it: a film shows the functions that ran."""
        return self.texts[fullname][1]


def _private() -> list[str]:
    return [name for name in sys.modules if name == "raft" or name.startswith("raft.")]


@contextmanager
def planted(mutant: Mutant) -> Iterator[ModuleType]:
    """The module raft.simulator of a private copy of the library with the bug in it. The real one is untouched."""
    planter = _Planter(mutant.sources())
    real = {name: sys.modules.pop(name) for name in _private()}
    sys.meta_path.insert(0, planter)
    try:
        simulator = importlib.import_module("raft.simulator")
        assert planter.planted == set(planter.texts), f"{set(planter.texts) - planter.planted} was never imported"
        yield simulator
    finally:
        sys.meta_path.remove(planter)
        for name in _private():
            del sys.modules[name]
        sys.modules.update(real)


@dataclass(frozen=True)
class Caught:
    """What found a mutant: the simulator after so many seeds (0: it didn't), and what it said."""

    by: str
    seeds: int
    words: str


def hunt(mutant: Mutant, seeds: Iterable[int]) -> Caught | None:
    """Plays seeds until one violates a property."""
    with planted(mutant) as simulator:
        for count, seed in enumerate(seeds, 1):
            violation = simulator.violation_of(simulator.plan_of(seed))
            if violation:
                return Caught("simulator", count, violation)
    return None


def hunt_with_tests(mutant: Mutant) -> Caught | None:
    """Runs the unit tests and the interaction scripts on a copy of the repository with the bug in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("engines", "raft", "server", "tests"):
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", copy)
        for path, text in mutant.sources().items():
            (copy / path).write_text(text, "utf-8")
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *UNIT_TESTS]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
        failed = [line.removeprefix("FAILED ") for line in ran.stdout.splitlines() if line.startswith("FAILED ")]
    return Caught("test", 0, failed[0]) if failed else None


def catch(mutant: Mutant, seeds: Iterable[int]) -> Caught | None:
    """By the simulator, or else by the tests; the other way round for one that chance rarely meets."""
    if mutant.rare:
        return hunt_with_tests(mutant) or hunt(mutant, seeds)
    return hunt(mutant, seeds) or hunt_with_tests(mutant)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the table; exit code 1 if a mutant wasn't found."""
    parser = argparse.ArgumentParser(prog="python -m tests.raft.mutants", description="What finds each planted bug.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=int(os.environ.get("METCD_SEED", "0")) * 1_000_000)
    arguments = parser.parse_args(words)
    missed = 0
    for mutant in MUTANTS:
        if arguments.names and mutant.name not in arguments.names:
            continue
        caught = catch(mutant, range(arguments.first, arguments.first + arguments.seeds))
        missed += caught is None
        by, seeds, said = (caught.by, caught.seeds or "-", caught.words) if caught else ("NOTHING", "-", mutant.why)
        print(f"{mutant.name:<58} {by:<10} {seeds:>5}  {said.splitlines()[0][:110]}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())

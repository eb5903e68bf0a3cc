"""Three more real LevelDBs: goleveldb, Debian's LevelDB in C++, and classic-level in node; and what files they make.

Each is a program that is built or installed once for all tests, and None where something that it needs is missing.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engines.env import real_env
from engines.kvstore import Stats
from engines.lsm import manifest

__all__ = [
    "Content",
    "LevelDB",
    "Operation",
    "apply_to",
    "cpp",
    "goleveldb",
    "level_numbers",
    "node",
    "random_operations",
]

HERE = Path(__file__).parent
GO_SOURCES = Path("/usr/share/gocode/src")
GOLEVELDB = GO_SOURCES / "github.com/syndtr/goleveldb"  # Debian's golang-github-syndtr-goleveldb-dev
LEVELDB_HEADER = Path("/usr/include/leveldb/db.h")  # Debian's libleveldb-dev
NPM = Path(sys.prefix) / "npm"  # where the Makefile installs classic-level

Content = dict[bytes, bytes]
Operation = tuple[bytes, bytes | None]


@dataclass(frozen=True)
class LevelDB:
    """A program with the verbs `apply`, `dump` and `compact`, whose words follow `command`."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *words: object, stdin: str = "") -> str:
        """What it prints. Raises AssertionError with what it says if it fails."""
        ended = self.ended(*words, stdin=stdin)
        assert ended.returncode == 0, f"{self.command} {words}: {ended.stdout[-500:]}{ended.stderr}"
        return ended.stdout

    def ended(self, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **self.environment},
        )

    def apply(self, directory: Path, operations: Iterable[Operation], *flags: str, batch: int = 7) -> None:
        """Puts and deletes, in batches of so many."""
        lines = []
        for number, (key, value) in enumerate(operations, 1):
            lines.append(f"delete {key.hex()}" if value is None else f"put {key.hex()} {value.hex() or '-'}")
            if number % batch == 0:
                lines.append("")
        self.run(*flags, "apply", directory, stdin="\n".join(lines) + "\n")

    def dump(self, directory: Path, *flags: str) -> Content:
        """Everything by an iterator; whatever get says otherwise is an error there."""
        found = {}
        for line in self.run(*flags, "dump", directory).splitlines():
            key, value = ("" if word == "-" else word for word in line.split(" ")[:2])
            found[bytes.fromhex(key)] = bytes.fromhex(value)
        return found


def goleveldb(directory: Path) -> LevelDB | None:
    """Built in `directory` from Debian's sources."""
    if shutil.which("go") is None or not GOLEVELDB.is_dir():
        return None
    shutil.copytree(HERE / "goleveldb_judge", directory / "src" / "judge")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": f"{directory}:{GO_SOURCES.parent}",
        "GOCACHE": str(directory / "cache"),
    }
    subprocess.run(["go", "build", "-o", "judge", "judge"], cwd=directory, env=environment, check=True, timeout=300)
    return LevelDB((str(directory / "judge"),), {})


def cpp(directory: Path) -> LevelDB | None:
    """Built in `directory` with Debian's LevelDB."""
    if shutil.which("g++") is None or not LEVELDB_HEADER.exists():
        return None
    program = directory / "judge"
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-o", program, HERE / "leveldb_judge" / "main.cc", "-lleveldb"],
        check=True,
        timeout=300,
    )
    return LevelDB((str(program),), {})


def node() -> LevelDB | None:
    """From what `make interop` has installed."""
    if shutil.which("node") is None or not (NPM / "node_modules" / "classic-level").is_dir():
        return None
    return LevelDB(("node", str(HERE / "classic_level.mjs")), {"CLASSIC_LEVEL": str(NPM)})


# ---- what is in the files -------------------------------------------------------------------------------------------


def level_numbers(directory: Path) -> dict[int, list[int]]:
    """Level → numbers of its tables, of the levels that have any: what the manifest says."""
    versions = manifest.read(real_env(), str(directory), Stats())
    found: dict[int, list[int]] = {}
    for level, file in versions.current.files():
        found.setdefault(level, []).append(file.number)
    return found


def random_operations(rng: random.Random, content: Content, count: int, keys: int = 500) -> list[Operation]:
    """Operations on few keys; `content` becomes what they make of it."""
    made: list[Operation] = []
    for number in range(count):
        key = b"%d" % rng.randrange(keys) * rng.choice((1, 1, 3))
        if rng.random() < 0.3:
            made.append((key, None))
            content.pop(key, None)
        else:
            content[key] = b"%d:" % number + b"abcdefgh" * rng.randrange(12)
            made.append((key, content[key]))
    return made


def apply_to(store: object, operations: Iterable[Operation]) -> None:
    """The same operations on a store of ours, or on anything with put and delete."""
    for key, value in operations:
        store.delete(key) if value is None else store.put(key, value)  # type: ignore[attr-defined]

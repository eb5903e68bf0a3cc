"""The real bbolt and boltdb, built from Debian's sources, and files in their words.

Without Go there is a build neither of the judge nor of the boltdb command; the tests that need one are skipped then, and
golden files (tests/btree) take their place. Newer Debians have bbolt without boltdb: then bbolt is the only judge.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engines.btree import Bucket, View

__all__ = ["Operation", "Tools", "build_tools", "dump_view"]

SOURCES = Path("/usr/share/gocode/src")  # Debian's golang-*-dev packages
JUDGE = Path(__file__).parent / "bbolt_judge"

Operation = tuple[bytes, bytes | None]
Dump = dict[str, bytes | None]  # path of names in hex → value; None is a bucket


@dataclass(frozen=True)
class Tools:
    """The two programs, and the version of the bbolt that the judge is linked with."""

    judge: Path
    bolt: Path | None
    version: str

    def run(self, *arguments: object, stdin: str = "") -> str:
        """What the judge prints. Raises AssertionError with what it says if it fails."""
        return _run([str(self.judge), *map(str, arguments)], stdin)

    def check(self, path: Path) -> None:
        """Both libraries' own checks find nothing."""
        self.run("check", path)
        if self.bolt is not None:
            assert self.run_bolt("check", path) == "OK\n"

    def run_bolt(self, *arguments: object) -> str:
        """What the boltdb command prints. Raises AssertionError as `run`."""
        return _run([str(self.bolt), *map(str, arguments)])

    def violations(self, path: Path) -> bool:
        """True if bbolt's check finds something."""
        return subprocess.run([str(self.judge), "check", str(path)], capture_output=True, timeout=60).returncode != 0

    def dump(self, path: Path, command: str = "dump") -> Dump:
        """Everything in a file through bbolt's cursor; each value was compared with what Get says."""
        found: Dump = {}
        for line in self.run(command, path).splitlines():
            name, value = line.split(" ")
            found[name] = None if value == "bucket" else bytes.fromhex(value[1:])
        return found

    def apply(self, path: Path, bucket: bytes, transactions: Iterable[Iterable[Operation]]) -> None:
        """Transactions of puts and deletes on one bucket."""
        lines = []
        for operations in transactions:
            for key, value in operations:
                words = f"{bucket.hex()} {key.hex()}"
                lines.append(f"delete {words}" if value is None else f"put {words} {value.hex()}")
            lines.append("")
        self.run("apply", path, stdin="\n".join(lines[:-1]) + "\n")


def _run(command: list[str], stdin: str = "") -> str:
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def build_tools(directory: Path) -> Tools | None:
    """Builds both programs in `directory`; None if Go or the sources are missing."""
    bbolt, boltdb = SOURCES / "go.etcd.io/bbolt", SOURCES / "github.com/boltdb/bolt"
    if shutil.which("go") is None or not bbolt.is_dir():
        return None
    source = directory / "src" / "judge"
    shutil.copytree(JUDGE, source)
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": f"{directory}:{SOURCES.parent}",
        "GOCACHE": str(directory / "cache"),
    }
    bolt = directory / "bolt" if boltdb.is_dir() else None
    tools = Tools(directory / "judge", bolt, _version_of_package(bbolt / "db.go"))
    for program, package in ((tools.judge, "judge"), (tools.bolt, "github.com/boltdb/bolt/cmd/bolt")):
        if program is None:
            continue
        subprocess.run(["go", "build", "-o", program, package], cwd=directory, env=environment, check=True, timeout=300)
    return tools


def _version_of_package(file: Path) -> str:
    """The upstream version of the Debian package that a file is from: "1.3.6" of 1.3.6-2."""
    package = _run(["dpkg-query", "-S", str(file)]).partition(":")[0]
    return _run(["dpkg-query", "-W", "-f", "${source:Upstream-Version}", package]).partition("+")[0].partition("~")[0]


def dump_view(view: View) -> Dump:
    """Everything in a file as we read it, in the judge's words."""
    return dict(_dump_bucket("", view.root_bucket()))


def _dump_bucket(path: str, bucket: Bucket) -> Iterator[tuple[str, bytes | None]]:
    for key, value in bucket.scan():
        assert bucket.get(key) == value
        yield f"{path}/{key.hex()}", value
    for name in bucket.buckets():
        yield f"{path}/{name.hex()}", None
        yield from _dump_bucket(f"{path}/{name.hex()}", bucket.bucket(name))

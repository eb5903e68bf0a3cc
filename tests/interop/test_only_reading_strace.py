"""The contract's seventh point, as the operating system sees it: under strace, every look at every engine's stores makes
system calls of a few harmless kinds only, on whatever lies below the stores.

    apt-get install strace
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
from engines.env import real_env
from tests.conformance.engine_table import engine_table
from tests.conformance.foreign import FOREIGN
from tests.conformance.reading import picture
from tests.conformance.test_only_reading import PATH, materialise, states
from tests.server.test_inspect import stopped_node

REPOSITORY = Path(__file__).parents[2]
PERSISTENT = [engine for engine in engine_table() if engine.persistent]

LOOKS = """
import contextlib, io, sys
import engines
from server.cli import main
engine, *stores = sys.argv[1:]
for store in stores:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for words in (["check", store], ["check", store, "--engine", engine], ["dump", store], ["which", store]):
            main(words)
    with contextlib.suppress(engines.StoreError), engines.open(store, engine, read_only=True) as opened:
        opened.check(), opened.stats(), opened.describe(), list(opened.scan())
print("looked", len(stores))
"""

# a call that names a path below the stores is one of these; strace -y shows the path of a descriptor
HARMLESS = [
    r"(newfstatat|stat|lstat|fstat|statx|statfs|fstatfs|access|faccessat2?|readlink|getcwd)\(",
    r"(getdents64|read|pread64|lseek|close|munmap|fadvise64|ioctl)\(",
    r"openat?\([^)]*\bO_RDONLY\b(?![^)]*O_(CREAT|TRUNC|APPEND|TMPFILE))",
    r"mmap\([^)]*\bPROT_READ\b(?![^)]*PROT_WRITE)",
    r"fcntl\([^)]*F_(GETFD|GETFL|SETFD|DUPFD_CLOEXEC|GETLK)",
    r"fcntl\([^)]*F_SETLK, \{l_type=F_(RDLCK|UNLCK)",
    r"flock\([^)]*LOCK_(SH|UN)",
    r"execve\(",
]


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace isn't installed: apt-get install strace")
    return found


def harmful(trace: Path, below: Path) -> Iterator[str]:
    """The calls on anything below the directory that aren't in the list."""
    for line in trace.read_text(errors="replace").splitlines():
        call = line.partition(" ")[2].lstrip()
        if str(below) in call and not any(re.match(pattern, call) for pattern in HARMLESS):
            yield call


@pytest.mark.parametrize("engine", PERSISTENT, ids=str)
def test_every_look_makes_harmless_system_calls_only(engine, strace, tmp_path):
    """Ours (killed, after power cuts, closed, damaged) and other programs'."""
    stores, root = [], tmp_path / "stores"
    for number, (_, env) in enumerate(states(engine)):
        materialise(env, root / str(number))
        stores.append(f"{root}/{number}{PATH}")
    for scene in FOREIGN[engine.where]:
        (root / scene.name).mkdir()
        scene.make(real_env(), f"{root}/{scene.name}/store")
        stores.append(f"{root}/{scene.name}/store")
    before = picture(root)
    trace = tmp_path / "trace"
    command = [strace, "-f", "-y", "-s", "0", "-o", str(trace), sys.executable, "-c", LOOKS, engine.where, *stores]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert ran.stdout == f"looked {len(stores)}\n", ran.stderr
    assert picture(root) == before
    assert sum(f"{root}/" in line for line in trace.read_text(errors="replace").splitlines()) > 20 * len(stores)
    assert list(harmful(trace, root)) == []


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_every_look_at_a_node_makes_harmless_system_calls_only(engine, strace, tmp_path):
    """A whole directory, and one that has lost its engine."""
    root = tmp_path / "nodes"
    whole, lost = (stopped_node(engine, root / name) for name in ("whole", "lost"))
    shutil.rmtree(lost / "engine") if (lost / "engine").is_dir() else (lost / "engine").unlink()
    before, trace = picture(root), tmp_path / "trace"
    command = [strace, "-f", "-y", "-s", "0", "-o", str(trace), sys.executable, "-c", LOOKS, engine, whole, lost]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "looked 2\n", ran.stderr
    assert picture(root) == before
    assert list(harmful(trace, root)) == []


def test_a_change_would_be_seen(strace, tmp_path):
    """The same judge on an opening for writing."""
    for engine in PERSISTENT:
        root, trace = tmp_path / engine.name, tmp_path / f"{engine.name}.trace"
        root.mkdir()
        script = "import engines, sys; engines.open(sys.argv[2], sys.argv[1]).close()"
        command = [strace, "-f", "-y", "-s", "0", "-o", str(trace)]
        command += [sys.executable, "-c", script, engine.where, str(root / "store")]
        subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)
        assert list(harmful(trace, root))

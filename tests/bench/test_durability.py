"""What a write survives. Here strace is a stand-in with a trace that was written down; `make interop` has the real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.durability import DurabilityFault, durability, durability_of_all
from bench.results import Durability, Subject
from bench.strace import MARK

PUTS = 3
BITCASK = Subject(name="bitcask", kind="engine", engine="bitcask")
MEMORY = Subject(name="memory", kind="engine", engine="memory")

STAND_IN = """#!{python}
import os, sys
at = sys.argv.index("-o") + 1
root = os.path.dirname(sys.argv[at])
with open(sys.argv[at], "w") as trace:
    trace.write({trace!r}.replace("ROOT", root))
os.execv(sys.argv[at + 1], sys.argv[at + 1:])
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A strace that runs the program untraced, and prints puts with a write and a sync each."""
    mark = f'7 openat(AT_FDCWD, "{MARK}", O_RDONLY) = -1 ENOENT (No such file or directory)\n'
    put = '7 write(5</ROOT/store/1>, ""..., 9) = 9\n7 fsync(5</ROOT/store/1>) = 0\n'.replace("/ROOT", "ROOT")
    program = tmp_path / "strace"
    program.write_text(STAND_IN.format(python=sys.executable, trace=(mark + put) * PUTS + mark))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return program


def test_what_is_there_after_a_kill_survives_what_the_calls_say(stand_in: Path) -> None:
    found = durability(BITCASK, synced=True, puts=PUTS)
    assert found == Durability(subject="bitcask", synced=True, puts=PUTS, writes=3, fsyncs=3, survives="power cut")


def test_without_a_sync_it_survives_a_killed_process(stand_in: Path) -> None:
    stand_in.write_text(stand_in.read_text().replace("fsync(", "lseek("))
    assert durability(BITCASK, synced=False, puts=PUTS).survives == "killed process"


def test_what_is_gone_after_a_kill_survives_nothing(stand_in: Path) -> None:
    """Whatever its system calls were: these say that each put was synced."""
    assert durability(MEMORY, synced=True, puts=PUTS).survives == "nothing"


def test_without_strace_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found, faults = durability_of_all([BITCASK, MEMORY], puts=PUTS)
    assert found == []
    assert faults == ["what a write survives isn't known: that needs strace, which isn't installed here"]


def test_what_strace_says_is_passed_on(stand_in: Path) -> None:
    """In a container it may be forbidden."""
    stand_in.write_text("#!/bin/sh\necho 'strace: ptrace: Operation not permitted' >&2\nexit 1\n")
    with pytest.raises(DurabilityFault, match=r"bitcask survives isn't known: strace: ptrace: Operation not permitted"):
        durability(BITCASK, synced=True, puts=PUTS)


def test_a_trace_that_misses_puts_is_none(stand_in: Path) -> None:
    with pytest.raises(DurabilityFault, match="4 puts were to be traced, and strace saw 3"):
        durability(BITCASK, synced=True, puts=PUTS + 1)

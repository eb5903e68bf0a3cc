"""What a write of a subject survives: nothing, a killed process, or a power cut. From what it does, not from what it says.

    strace -f ──── a process puts, a mark before each put, and kills itself (SIGKILL) after the last one
                     │
                     ├─ the system calls between two marks: was each put on the disk when it returned?   power cut
                     └─ another process opens the store and looks: is every put there?                   killed process

1. Only a subject that has every put after the kill survives anything. Documentation is not asked.
2. "power cut" needs each put to be on the disk when it returned (`bench/strace.py` has the rule). One put that isn't is
   enough to say "killed process".
3. The puts are few, so that no flush, compaction or checkpoint of the subject's own stands among them for the rule.

Needs strace, on Linux. Where it is missing or not allowed, DurabilityFault has the sentence for the column.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from bench.results import Durability, Subject
from bench.strace import CALLS, MARK, Trace, parse
from bench.subjects import open_subject
from bench.workload import key_of

__all__ = ["PUTS", "DurabilityFault", "durability", "durability_of_all"]

PUTS = 100
WARM_UP = 5  # files are made by the first puts
TIMEOUT_S = 60.0
VALUE = b"v" * 100


class DurabilityFault(Exception):
    """What a write survives can't be found out here; the sentence says why."""


def durability_of_all(
    subjects: Sequence[Subject], *, puts: int = PUTS, step: Callable[[str], object] = str
) -> tuple[list[Durability], list[str]]:
    """Each subject without and with sync, and sentences about those that couldn't be looked at."""
    found: list[Durability] = []
    faults: list[str] = []
    for subject in subjects:
        for synced in (False, True):
            try:
                found.append(durability(subject, synced=synced, puts=puts))
            except DurabilityFault as fault:
                if str(fault) not in faults:
                    faults.append(str(fault))
            step(f"{subject.name} durability")
    return found, faults


def durability(subject: Subject, *, synced: bool, puts: int = PUTS) -> Durability:
    """What a put of the subject survives. Raises DurabilityFault. Takes about a second."""
    with tempfile.TemporaryDirectory(prefix="metcd-durability-") as directory:
        directory = os.path.realpath(directory)  # as strace names it
        work = {"subject": asdict(subject), "path": f"{directory}/store", "synced": synced, "puts": puts}
        trace = _traced(work, directory)
        if len(trace.puts) != puts:
            raise DurabilityFault(f"{subject.name}: {puts} puts were to be traced, and strace saw {len(trace.puts)}")
        there = _look(work)
    if there < puts + WARM_UP:
        survives = "nothing"
    else:
        survives = "power cut" if trace.each_on_disk else "killed process"
    return Durability(
        subject=subject.name, synced=synced, puts=puts, writes=trace.writes, fsyncs=trace.syncs, survives=survives
    )


def _traced(work: dict[str, Any], directory: str) -> Trace:
    """The trace of a process that puts and kills itself."""
    strace = shutil.which("strace")
    if strace is None:
        raise DurabilityFault("what a write survives isn't known: that needs strace, which isn't installed here")
    log = f"{directory}/trace"
    words = [strace, "-f", "-y", "-qq", "-s", "0", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", log]
    ended = _run([*words, *_command("put", work)])
    if ended.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DurabilityFault(f"what a write of {work['subject']['name']} survives isn't known: {last}")
    with open(log, encoding="utf-8", errors="replace") as lines:
        return parse(lines, directory)


def _look(work: dict[str, Any]) -> int:
    """How many of the puts are there, in a process of its own; 0 if the store doesn't open."""
    ended = _run(_command("look", work))
    return int(ended.stdout) if ended.returncode == 0 else 0


def _command(verb: str, work: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "bench.durability", verb, json.dumps(work)]


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise DurabilityFault(f"what a write survives isn't known: the puts took more than {TIMEOUT_S:g} s") from None


# ---- the two processes ---------------------------------------------------------------------------------------------------


def _put(work: dict[str, Any]) -> NoReturn:
    """Puts, with a mark before each put that counts, and kills itself."""
    calls = open_subject(Subject(**work["subject"]), work["path"], sync=work["synced"])
    for number in range(WARM_UP):
        calls.put(key_of(number), VALUE)
    for number in range(WARM_UP, WARM_UP + work["puts"]):
        _mark()
        calls.put(key_of(number), VALUE)
    _mark()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")


def _mark() -> None:
    try:
        os.open(MARK, os.O_RDONLY)
    except FileNotFoundError:
        return
    raise AssertionError(f"there is a file {MARK}")


def _look_for(work: dict[str, Any]) -> None:
    calls = open_subject(Subject(**work["subject"]), work["path"], sync=work["synced"])
    print(sum(calls.get(key_of(number)) == VALUE for number in range(WARM_UP + work["puts"])))
    calls.close()


if __name__ == "__main__":
    (_put if sys.argv[1] == "put" else _look_for)(json.loads(sys.argv[2]))

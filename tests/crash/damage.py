"""Every byte is damaged: bit 0 and bit 7 flipped, or zeroed; and every file is cut at every length.

Of a small store, both closed in order and killed. What may come out, and nothing else:

    the right answer                        the byte doesn't matter, or there is a copy of what it says
    a shorter history                       if the subject says that its format can't tell this from a torn tail
    CorruptionError with path and reason    and it is the path of a file that exists, or existed

A wrong answer, another exception and a hang are failures. A hang is bounded by counts (calls of Env, and CPU time for
loops that make none), and memory by a limit of the process: a damaged length must not be believed.
"""

from __future__ import annotations

import errno
import random
import resource
import signal
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engines.errors import CorruptionError
from engines.faultenv import FaultEnv
from engines.simenv import KINDS, Policy, SimEnv
from tests.crash.machine import SEED, History, Subject, run_step

__all__ = ["DamageReport", "Hang", "flip_every_byte"]

CALLS = 20_000  # of Env, that one recovery may make
CPU_SECONDS = 20  # that one recovery may take
MEMORY_BYTES = 1 << 30  # that the whole run may take on top of what the process has
LOOKS = frozenset(("open", "pread", "view", "list", "lock"))
FAILURES_KEPT = 20
DAMAGES = ("cut", "bit 0", "bit 7", "zero")


class Hang(BaseException):
    """A recovery that doesn't end. No Exception, so that no engine can catch it by mistake."""


@dataclass
class DamageReport:
    """What was damaged, and what came of it."""

    subject: str
    seed: int
    bytes: int = 0  # of all files
    attempts: int = 0
    right: int = 0
    shorter: int = 0
    refused: int = 0  # with CorruptionError
    failed: int = 0
    failures: list[str] = field(default_factory=list)  # the first few
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.subject}: {self.bytes} bytes, {self.attempts} damaged stores: {self.refused} refused, "
            f"{self.right} right, {self.shorter} shorter, {self.failed} failures, {self.seconds:.1f} s"
        )

    def require_no_failure(self) -> None:
        """Raises AssertionError with the first failures and the command that repeats them."""
        if self.failed:
            again = f"again: METCD_SEED={self.seed} python -m tests.crash {self.subject} --only damage"
            raise AssertionError("\n".join([str(self), *self.failures[:5], again]))


def flip_every_byte(subject: Subject, seed: int = SEED, *, attempts: int | None = None) -> DamageReport:
    """Damages the subject's small store in every way; `attempts` is how many of them to choose by chance."""
    report = DamageReport(subject.name, seed)
    begun = time.perf_counter()
    with _bounded():
        files: list[tuple[SimEnv, History, str]] = []
        ends = []  # of each file's damages, as numbers in place of a list of them: a node's directory has two million
        for closed in (True, False):
            env, history = _small_store(subject, seed, closed)
            for path, content in env.files().items():
                report.bytes += len(content)
                files.append((env, history, path))
                ends.append(report.bytes * len(DAMAGES))
        numbers: Sequence[int] = range(report.bytes * len(DAMAGES))
        if attempts is not None and attempts < len(numbers):
            numbers = random.Random(seed).sample(numbers, attempts)
        for number in numbers:
            at = bisect_right(ends, number)
            offset, damage = divmod(number - (ends[at - 1] if at else 0), len(DAMAGES))
            _attempt(subject, report, *files[at], offset, DAMAGES[damage])
    report.seconds = time.perf_counter() - begun
    return report


def _small_store(subject: Subject, seed: int, closed: bool) -> tuple[SimEnv, History]:
    env, history = SimEnv(seed), History(subject)
    handle = subject.open(env)
    for step in subject.small_steps(random.Random(seed)):
        history.begin(step)
        handle = run_step(subject, env, handle, step)
        history.end(step)
    if closed:
        subject.close(handle)
    else:
        subject.abandon(handle)
    return env.crash(Policy.EVERYTHING, random.Random(seed)), history


def _damaged(content: bytes, offset: int, damage: str) -> bytes:
    if damage == "cut":
        return content[:offset]
    byte = content[offset]
    changed = {"bit 0": byte ^ 1, "bit 7": byte ^ 128, "zero": 0}[damage]
    return content[:offset] + bytes((changed,)) + content[offset + 1 :]


def _attempt(
    subject: Subject, report: DamageReport, env: SimEnv, history: History, path: str, offset: int, damage: str
) -> None:
    content = env.files()[path]
    damaged = _damaged(content, offset, damage)
    if damaged == content:
        return
    report.attempts += 1
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    image.poke(path, damaged)
    outcome = _read_all(subject, image)
    where = f"{damage} at byte {offset} of {path} ({len(content)} bytes)"
    lost = subject.may_lose(path, offset, len(content), "cut" if damage == "cut" else "flip")
    states = history.states
    if isinstance(outcome, CorruptionError):
        if outcome.path and outcome.why and (outcome.offset is None or outcome.offset >= 0):
            report.refused += 1
            return
        what = f"CorruptionError must name path and reason: {outcome}"
    elif isinstance(outcome, BaseException):
        what = f"{type(outcome).__name__}: {outcome}"
    elif outcome == states[-1]:
        report.right += 1
        return
    elif outcome in states[max(0, len(states) - 1 - lost) :]:
        report.shorter += 1
        return
    else:
        what = f"a wrong answer: {subject.lost(outcome, states[-1:])}"
    report.failed += 1
    if len(report.failures) < FAILURES_KEPT:
        report.failures.append(f"{where}: {what}")


def _read_all(subject: Subject, image: SimEnv) -> Any:
    """The state, or what opening or reading raises; the limits are enforced here."""
    env = FaultEnv(image, CALLS, errno.ELOOP, forever=True, kinds=KINDS | LOOKS)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        handle = subject.open(env)
        state = subject.state(handle)
        subject.abandon(handle)
    except (Exception, Hang) as error:
        if env.fired is not None:
            return Hang(f"{CALLS} calls, and no end")
        return error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return state


@contextmanager
def _bounded() -> Iterator[None]:
    """Sets the limits of memory and of CPU time, and gives them back."""

    def hang(number: int, frame: Any) -> None:
        raise Hang(f"{CPU_SECONDS} s of CPU time, and no end")

    before = signal.signal(signal.SIGVTALRM, hang)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    limit = used + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)

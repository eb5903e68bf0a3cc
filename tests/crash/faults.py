"""Every call fails: call 1, then call 2, and so on until a run of the workload completes untouched.

The loop is SQLite's. What may come out of a failure, and nothing else:

    the step raises OSError     then every later call of the handle raises StoreFailed, whatever it is
    opening raises OSError      then nothing is left behind: the same process can open again
    the step succeeds           then the fault was harmless, and the answers stay right

and in each case, on a healthy disk, every acknowledged step is there and nothing was invented: when the same process
opens again, after kill -9, and after a power cut under each policy. If the store goes on after the failure, the power
is cut after each later call, because a store that acknowledges anyway is right at the end of most runs: a later fsync
of the same file or a checkpoint mends what was lost.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.faultenv import OPENS, FaultEnv
from engines.simenv import Call, Policy, SimEnv
from tests.crash.machine import KILL, REOPEN, SEED, Handle, History, Step, Subject, recover

__all__ = ["FAULTS", "FaultReport", "every_call_fails"]

FAULTS: dict[str, dict[str, Any]] = {
    "EIO once": {"error": errno.EIO},
    "EIO for ever": {"error": errno.EIO, "forever": True},
    "ENOSPC once": {"error": errno.ENOSPC},
    "ENOSPC for ever": {"error": errno.ENOSPC, "forever": True},
    "short write": {"short_write": True},
    "EMFILE once": {"error": errno.EMFILE, "kinds": OPENS},
    "EMFILE for ever": {"error": errno.EMFILE, "kinds": OPENS, "forever": True},
}
NEVER = 1 << 60
WATCHED_CALLS = 30
FAILURES_KEPT = 20


@dataclass
class FaultReport:
    """What the loop has done, and what it has found."""

    subject: str
    seed: int
    calls: int = 0  # that one untouched run makes, all faults together
    runs: int = 0  # with a call that failed
    images: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)  # the first few
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.subject}: {self.runs} runs with a failing call out of {self.calls} calls, {self.images} images, "
            f"{self.failed} failures, {self.seconds:.1f} s"
        )

    def require_no_failure(self) -> None:
        """Raises AssertionError with the first failures and the command that repeats them."""
        if self.failed:
            again = f"again: METCD_SEED={self.seed} python -m tests.crash {self.subject} --only faults"
            raise AssertionError("\n".join([str(self), *self.failures[:5], again]))


def every_call_fails(
    subject: Subject, seed: int = SEED, *, faults: Sequence[str] = tuple(FAULTS), runs: int | None = None
) -> FaultReport:
    """Runs the workload once for each call and each fault; `runs` is how many to choose by chance of each fault."""
    report = FaultReport(subject.name, seed)
    begun = time.perf_counter()
    for fault in faults:
        untouched = _Run(subject, seed, fault, NEVER, report)
        untouched.run()
        calls = untouched.disk.calls
        report.calls += calls
        numbers: Sequence[int] = range(1, calls + 1)
        if runs is not None and runs < calls:
            numbers = random.Random(f"{seed} {fault}").sample(numbers, runs)
        for number in numbers:
            report.runs += 1
            _Run(subject, seed, fault, number, report).run()
    report.seconds = time.perf_counter() - begun
    return report


class _Run:
    """One run of the workload, in which call `number` fails."""

    def __init__(self, subject: Subject, seed: int, fault: str, number: int, report: FaultReport) -> None:
        self.subject = subject
        self.seed = seed
        self.fault = fault
        self.report = report
        self.chance = random.Random(seed)
        self.history = History(subject)
        self.env = SimEnv(seed, after_call=self._watch)
        self.disk = FaultEnv(self.env, number, **FAULTS[fault])
        self.handle: Handle | None = None
        self.closed: Handle | None = None  # whose close has failed
        self.outcomes: dict[int, Any] = {}
        self.watched = 0  # calls since the failure
        self.bad = False

    def run(self) -> None:
        subject = self.subject
        steps = subject.steps(random.Random(self.seed))
        done = 0
        try:
            self.handle = subject.open(self.disk)
            for step in steps:
                self._do(step)
                done += 1
            self._close()
        except OSError as error:
            self._failed(error, [step for step in steps[done:] if step.kind not in (REOPEN, KILL)])
        except subject.failed as error:
            if self.disk.fired is None:
                self._fail(f"{type(error).__name__} without a cause: {error}")
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")
        self.env.after_call = None
        self._look_at_images(tuple(Policy))
        self._open_again()

    def _do(self, step: Step) -> None:
        subject = self.subject
        self.history.begin(step)
        if step.kind == REOPEN:
            self._close()
            self.handle = subject.open(self.disk)
        elif step.kind == KILL:
            subject.abandon(self.handle)
            self.handle = None
            self.env.after_call = None
            self.disk.env = self.env = self.env.crash(Policy.EVERYTHING, self.chance)
            self.env.after_call = self._watch
            self.handle = subject.open(self.disk)
        else:
            subject.apply(self.handle, step)
        self.history.end(step)

    def _close(self) -> None:
        """Whatever comes of it, the handle's life is over."""
        self.closed, self.handle = self.handle, None
        self.subject.close(self.closed)
        self.closed = None

    def _fail(self, what: str) -> None:
        self.bad = True
        self.report.failed += 1
        if len(self.report.failures) < FAILURES_KEPT:
            fired = self.disk.fired
            where = f"{fired.kind} {fired.path} {fired.site}" if fired else "nothing"
            self.report.failures.append(f"{self.fault} at call {self.disk.fail_at} ({where}): {what}")

    # ---- what the handle does after the failure -----------------------------------------------------------------

    def _failed(self, error: OSError, later: list[Step]) -> None:
        """A step or an opening has raised OSError: that must be our fault, and the end of the handle."""
        fired = self.disk.fired
        if fired is None or error.errno != self.disk.error:
            self._fail(f"{type(error).__name__} that nobody caused: {error}")
        elif self.handle is not None:
            if fired.kind in self.subject.poisoned_by:
                self._expect_poisoned(later)
            else:
                self._expect_right_or_poisoned()

    def _expect_poisoned(self, later: list[Step]) -> None:
        calls: list[tuple[str, Any]] = [("reading", lambda: self.subject.state(self.handle))]
        calls += [(step.kind, lambda step=step: self.subject.apply(self.handle, step)) for step in later[:3]]
        for name, call in calls:
            try:
                call()
            except self.subject.failed:
                continue
            except Exception as error:
                self._fail(f"then {name} raised {type(error).__name__}, not StoreFailed: {error}")
            else:
                self._fail(f"then {name} succeeded, where StoreFailed was due")

    def _expect_right_or_poisoned(self) -> None:
        tolerated: tuple[type[Exception], ...] = (OSError, *self.subject.failed)
        try:
            seen = self.subject.state(self.handle)
        except tolerated:
            return
        except Exception as error:
            self._fail(f"then reading raised {type(error).__name__}: {error}")
            return
        if seen not in self.history.states[self.history.returned :]:
            self._fail(f"then reading: {self.subject.lost(seen, self.history.states[self.history.returned :])}")

    # ---- what is on disk after the failure ----------------------------------------------------------------------

    def _watch(self, call: Call) -> None:
        """A failure is over, and the store goes on: the power may be cut after each of its later calls.

        All of them after a failed sync; after other failures, which don't make the disk forget anything, the next few.
        """
        fired = self.disk.fired
        if fired is None or self.bad:
            return
        self.watched += 1
        if fired.kind in ("sync", "sync_dir") or self.watched <= WATCHED_CALLS:
            self._look_at_images((Policy.NOTHING, Policy.EVERYTHING, Policy.REORDER))

    def _look_at_images(self, policies: Sequence[Policy]) -> None:
        for policy in policies:
            image = self.env.crash(policy, self.chance)
            self.report.images += 1
            key = image.fingerprint()
            if key not in self.outcomes:
                self.outcomes[key] = recover(self.subject, image)
            self._judge(self.outcomes[key], self._allowed(policy), f"after {policy.value}")

    def _allowed(self, policy: Policy) -> list[Any]:
        lost = self.disk.fired is not None and not self.subject.failure_keeps_returned
        return self.history.allowed(None if lost else policy)

    def _judge(self, outcome: Any, allowed: Sequence[Any], when: str) -> None:
        if isinstance(outcome, Exception):
            self._fail(f"{when}, recovery raised {type(outcome).__name__}: {outcome}")
        elif outcome not in allowed:
            self._fail(f"{when}, {self.subject.lost(outcome, allowed)}")

    def _open_again(self) -> None:
        """In the same process, on a disk that works again: close has to give up the lock even after a failure."""
        tolerated: tuple[type[Exception], ...] = (OSError, *self.subject.failed)
        if (handle := self.handle or self.closed) is not None:
            try:
                self.subject.close(handle)
            except tolerated:
                pass
            except Exception as error:
                self._fail(f"close raised {type(error).__name__}: {error}")
        self._judge(recover(self.subject, self.env), self._allowed(Policy.EVERYTHING), "in the same process")

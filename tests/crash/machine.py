"""The power-cut machine: runs a workload, cuts the power after every call, and looks at what is found afterwards.

To add a subject, an engine or any other durable part:

1. An engine needs one line in `subjects.SUBJECTS`: `"name": lambda: StoreSubject("name", logs=("*.log",))`. Its options
   are those of `tests.conformance.engine_table.TINY`: so small that 150 steps rotate, flush, compact and reuse names.
2. Anything else derives from `Subject`: `open(env)`, `steps(rng)` (the workload as data), `apply(handle, step)`,
   `state(handle)` (anything that can be compared), `after(state, step)` (the model: the states that the step goes
   through, the last one being its result), `probe(state)` (a durable step that a recovered store must take).
3. A step says `durable=True` if everything up to and including it survives once it has returned. Steps of the kinds
   "reopen" and "kill" are done by the machine. What a format can't promise, `may_lose` and the flags of Subject say.
4. `python -m tests.crash NAME` runs all of it and prints figures; `tests/crash/test_subjects.py` runs a small version.
5. Fsync sites need not be listed: they are seen in the run, and each must be missed by somebody (`site_mutants`).

What is checked, of every image that a power cut may leave (reliability: SQLite's and ALICE's way):

    history    s0 ─ s1 ─ s2 ─ s3 ─ s4        a step that was acknowledged as durable moves `acked` up to its result,
                    │         │    └ issued  one that has begun moves `issued`
                    acked     returned       the recovered state must be one of s[acked] ... s[issued];
                                             after `kill -9`, with the disk well, one of s[returned] ... s[issued]

* Of a sample of the images: the recovered store takes a durable write, and a power cut right after it loses nothing.
* Of another sample: the power is cut again after every call of the recovery, two levels deep; the same range holds.
* An image that is bit for bit equal to an earlier one isn't recovered again; its known outcome is held against its own
  range. The report counts both: images made, and distinct ones recovered.
"""

from __future__ import annotations

import os
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.env import Env
from engines.errors import StoreFailed
from engines.simenv import FIXED, KINDS, Call, Policy, SimEnv

__all__ = [
    "SEED",
    "Failure",
    "History",
    "PowerCut",
    "Report",
    "Step",
    "Subject",
    "power_cut",
    "recover",
    "run_step",
    "site_mutants",
    "sync_sites",
]

SEED = int(os.environ.get("METCD_SEED", "0"))
RANDOM_IMAGES = 4  # of each random policy, after each call: with the fixed ones 4 + 4 x 4 = 20
FAILURES_KEPT = 20
ROOT = "/disk/db"  # a directory whose parent is missing too, so that makedirs has something to do

State = Any
Handle = Any


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a workload. `durable`: once it has returned, nothing up to and including it may be lost."""

    kind: str
    arguments: tuple[Any, ...] = ()
    durable: bool = False


REOPEN = "reopen"  # the machine closes the handle and opens another one
KILL = "kill"  # the machine abandons the handle, as kill -9 would, and opens another one


class Subject(ABC):
    """A durable part that the machine can run; the module's docstring tells how to write one."""

    name: str
    initial: State  # of what is opened where nothing is
    failed: tuple[type[Exception], ...] = (StoreFailed,)  # what every call raises after a failed one
    poisoned_by: frozenset[str] = KINDS  # the kinds of calls whose failure ends the handle's life
    kill_keeps_returned = True  # False: kill -9 may take what has returned without being durable (a buffer in memory)
    second_cut_share = 0.05  # of the images, after each call of whose recovery the power is cut again
    failure_keeps_returned = True  # False: a failed call may do so too (a half-written page that was not durable)

    @abstractmethod
    def open(self, env: Env) -> Handle:
        """Opens, creating or recovering, below ROOT."""

    @abstractmethod
    def steps(self, rng: random.Random) -> list[Step]:
        """A workload of 300 to 600 mutating calls that reaches every part of the subject."""

    @abstractmethod
    def apply(self, handle: Handle, step: Step) -> None:
        """Does the step; returning is the acknowledgement."""

    @abstractmethod
    def after(self, state: State, step: Step) -> Sequence[State]:
        """The states that the step goes through, without `state` itself; [] if it changes nothing.

        Any of them may be found if the step was begun and not acknowledged. An atomic step has one.
        """

    @abstractmethod
    def state(self, handle: Handle) -> State:
        """Everything that the handle's user can see."""

    @abstractmethod
    def probe(self, state: State) -> Step:
        """A durable step that changes any recovered state."""

    def lost(self, found: State, allowed: Sequence[State]) -> str:
        """What is wrong with a state, none of those that may be found: in words, and in full."""
        later = f", or one of {len(allowed) - 1} later states" if len(allowed) > 1 else ""
        return f"{found!r} was found, where {allowed[0]!r} was due{later}"

    def close(self, handle: Handle) -> None:
        """An orderly end."""
        handle.close()

    def abandon(self, handle: Handle) -> None:  # noqa: B027
        """The end that kill -9 makes. Only handles with threads or real descriptors have something to do here."""

    def small_steps(self, rng: random.Random) -> list[Step]:
        """A workload that leaves at most some 20 KB, for `damage.flip_every_byte`."""
        return self.steps(rng)[:30]

    def may_lose(self, path: str, offset: int, size: int, damage: str) -> int:
        """How many of the last states recovery may do without, because its format can't tell the damage from a torn
        tail. `damage` is "cut" (of the file to `offset` bytes) or "flip" (of a bit of the byte there)."""
        return 0


class History:
    """The states that a workload has gone through, and how far it is known to have come."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.states: list[State] = [subject.initial]
        self.acked = 0  # index of the last state that can't be lost
        self.returned = 0  # index of the last state whose step has returned

    def begin(self, step: Step) -> None:
        self.states += self.subject.after(self.states[-1], step)

    def end(self, step: Step) -> None:
        self.returned = len(self.states) - 1
        if step.durable:
            self.acked = self.returned

    def rewind(self, state: State) -> None:
        """A recovery has shown this state: what comes after it in the history has not happened."""
        index = max(i for i, known in enumerate(self.states) if known == state)
        del self.states[index + 1 :]
        self.returned = index

    def allowed(self, policy: Policy | None = None) -> list[State]:
        """What may be found now after a power cut; a narrower choice after kill -9."""
        first = self.returned if policy is Policy.EVERYTHING and self.subject.kill_keeps_returned else self.acked
        return self.states[first:]


@dataclass(frozen=True, slots=True)
class Failure:
    """One image whose recovery went wrong."""

    call: Call
    policy: Policy
    what: str

    def __str__(self) -> str:
        number, kind, path, site = self.call
        return (
            f"cut after call {number} ({kind} {path}{' at ' + site if site else ''}), {self.policy.value}: {self.what}"
        )


@dataclass
class Report:
    """What a run has done, and what it has found."""

    subject: str
    seeds: list[int] = field(default_factory=list)
    calls: int = 0  # after which the power was cut
    images: int = 0
    distinct: int = 0  # of the images, those that differed from all before
    recoveries: int = 0  # distinct images, probed and compound ones included
    second_cuts: int = 0  # images made during a recovery
    probes: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)  # the first few
    policies: Counter[Policy] = field(default_factory=Counter)  # that found the failures
    sites: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.subject}: {self.calls} cuts, {self.images} images ({self.distinct} distinct), "
            f"{self.second_cuts} cuts during recovery, {self.probes} probes, {self.recoveries} recoveries, "
            f"{self.failed} failures, {self.seconds:.1f} s"
        )

    def repeat(self) -> str:
        """The command that runs the first failing seed again."""
        seed = self.seeds[-1] if self.seeds else SEED
        return f"METCD_SEED={seed} python -m tests.crash {self.subject} --images {self.images}"

    def require_no_failure(self) -> None:
        """Raises AssertionError with the first failures and the command that repeats them."""
        if self.failed:
            lines = [str(self), *map(str, self.failures[:5]), "again: " + self.repeat()]
            raise AssertionError("\n".join(lines))


def recover(subject: Subject, env: SimEnv) -> State | Exception:
    """The state that is found on the disk, or what opening or reading raises."""
    try:
        handle = subject.open(env)
        state = subject.state(handle)
        subject.abandon(handle)
    except Exception as error:
        return error
    return state


def run_step(subject: Subject, env: Env, handle: Handle, step: Step) -> Handle:
    """Does one step, a "reopen" too, and returns the handle to go on with."""
    if step.kind == REOPEN:
        subject.close(handle)
        return subject.open(env)
    subject.apply(handle, step)
    return handle


class PowerCut:
    """One workload with its cuts. `cut_after` are the numbers of the calls to cut after; None is all of them."""

    def __init__(
        self,
        subject: Subject,
        seed: int,
        report: Report,
        *,
        skip_sites: Collection[str] = (),
        policies: Collection[Policy] = tuple(Policy),
        cut_after: Collection[int] | None = None,
        probe_share: float = 0.1,
        second_cut_share: float | None = None,
        stop_at_first: bool = False,
    ) -> None:
        self.subject = subject
        self.seed = seed
        self.report = report
        self.policies = policies
        self.cut_after = cut_after
        self.probe_share = probe_share
        self.second_cut_share = subject.second_cut_share if second_cut_share is None else second_cut_share
        self.stop_at_first = stop_at_first
        self.history = History(subject)
        self.env = SimEnv(seed, skip_sites=skip_sites)
        self.chance = random.Random(f"chance {seed}")
        self.outcomes: dict[int, State | Exception] = {}  # fingerprint of an image → what its recovery gave
        self.now = Call(0, "start", "")

    @property
    def done(self) -> bool:
        return self.stop_at_first and self.report.failed > 0

    def run(self) -> int:
        """Runs the workload, and returns how many calls it made."""
        subject = self.subject
        self.report.seeds.append(self.seed)
        self.env.after_call = self._cut
        handle = subject.open(self.env)
        for step in subject.steps(random.Random(self.seed)):
            if self.done:
                break
            self.history.begin(step)
            handle = self._kill(handle) if step.kind == KILL else run_step(subject, self.env, handle, step)
            self.history.end(step)
            if step.kind in (REOPEN, KILL):
                self._expect_now(handle, step)
        else:
            self._expect_now(handle, Step("end"))
            subject.close(handle)
        self.report.sites |= self.env.sites
        return self.env.calls

    def _kill(self, handle: Handle) -> Handle:
        """kill -9, and a new process; the numbers of the calls go on."""
        self.subject.abandon(handle)
        self.report.sites |= self.env.sites
        killed, self.env = self.env, self.env.crash(Policy.EVERYTHING, self.chance)
        self.env.calls = killed.calls
        self.env.after_call, killed.after_call = killed.after_call, None
        handle = self.subject.open(self.env)
        if not self.subject.kill_keeps_returned:
            self.history.rewind(self.subject.state(handle))
        return handle

    def _expect_now(self, handle: Handle, step: Step) -> None:
        """With the power on, the subject shows the last state of the model, or the workload is void."""
        seen = self.subject.state(handle)
        expected = self.history.states[-1]
        assert seen == expected, f"after {step.kind}, with the power on, {self.subject.lost(seen, [expected])}"

    # ---- images -------------------------------------------------------------------------------------------------

    def _cut(self, call: Call) -> None:
        """The hook: makes the images of this moment, and looks at each."""
        if self.done or (self.cut_after is not None and call.number not in self.cut_after):
            return
        self.now = call
        self.report.calls += 1
        rng = random.Random(self.seed * 1_000_003 + call.number)
        for policy in self.policies:
            for _ in range(1 if policy in FIXED else RANDOM_IMAGES):
                self.report.images += 1
                image = self.env.crash(policy, rng)
                self._look(image, policy, self.history.allowed(policy))

    def _look(self, image: SimEnv, policy: Policy, allowed: list[State]) -> None:
        """Recovers an image, if it is a new one, and judges what is found."""
        key = image.fingerprint()
        if key in self.outcomes:
            self._judge(self.outcomes[key], policy, allowed)
            return
        self.report.distinct += 1
        probed = image.crash(Policy.EVERYTHING, self.chance) if self.chance.random() < self.probe_share else None
        cut_again = (
            image.crash(Policy.EVERYTHING, self.chance) if self.chance.random() < self.second_cut_share else None
        )
        outcome = self.outcomes[key] = self._recover(image)
        if not self._judge(outcome, policy, allowed) or self.done:
            return
        if probed is not None:
            self._probe(probed, outcome, policy)
        if cut_again is not None:
            # a second cut after kill -9 is a power cut, and takes what was returned and not durable
            self._cut_recovery(cut_again, policy, self.history.allowed(), levels=2)

    def _recover(self, image: SimEnv) -> State | Exception:
        self.report.recoveries += 1
        outcome = recover(self.subject, image)
        self.report.sites |= image.sites
        return outcome

    def _judge(self, outcome: State | Exception, policy: Policy, allowed: Sequence[State], when: str = "") -> bool:
        if isinstance(outcome, Exception):
            return self._fail(policy, f"{when}recovery raised {type(outcome).__name__}: {outcome}")
        if outcome not in allowed:
            return self._fail(policy, f"{when}{self.subject.lost(outcome, allowed)}")
        return True

    def _fail(self, policy: Policy, what: str) -> bool:
        self.report.failed += 1
        self.report.policies[policy] += 1
        if len(self.report.failures) < FAILURES_KEPT:
            self.report.failures.append(Failure(self.now, policy, what))
        return False

    def _probe(self, env: SimEnv, recovered: State, policy: Policy) -> None:
        """The recovered store takes a durable step; a power cut after it, or an orderly end, loses nothing."""
        subject = self.subject
        self.report.probes += 1
        try:
            handle = subject.open(env)
            step = subject.probe(recovered)
            expected = subject.after(recovered, step)[-1]
            subject.apply(handle, step)
            images = [env.crash(choice, self.chance) for choice in (Policy.NOTHING, Policy.REORDER)]
            subject.close(handle)
        except Exception as error:
            self._fail(policy, f"a write to the recovered store raised {type(error).__name__}: {error}")
            return
        after = "then a durable write, and after another power cut: "
        for image, when in (
            (images[0], after),
            (images[1], after),
            (env, "then a durable write, and after a reopen: "),
        ):
            self._judge(self._recover(image), policy, [expected], when)

    def _cut_recovery(self, env: SimEnv, policy: Policy, allowed: Sequence[State], levels: int) -> None:
        """Cuts the power after each call of a recovery; one of these images, by chance, is treated likewise."""

        def cut(call: Call) -> None:
            for second in self.policies:
                if self.done:
                    return
                self.report.second_cuts += 1
                image = env.crash(second, self.chance)
                again = image.crash(Policy.EVERYTHING, self.chance) if levels > 1 else None
                key = image.fingerprint()
                if key not in self.outcomes:
                    self.outcomes[key] = self._recover(image)
                    if again is not None and self.chance.random() < 0.2:
                        self._cut_recovery(again, policy, allowed, levels - 1)
                when = f"then cut again in recovery after {call.kind} {call.path} {call.site}, {second.value}: "
                self._judge(self.outcomes[key], policy, allowed, when)

        env.after_call = cut
        recover(self.subject, env)
        self.report.sites |= env.sites


def power_cut(subject: Subject, seed: int = SEED, *, images: int | None = None, **options: Any) -> Report:
    """Runs workloads of the seeds `seed`, `seed + 1`, ... with cuts until `images` images are made.

    None is one workload with a cut after every call. If `images` is less than that, the calls to cut after are chosen
    by chance. `options` are those of PowerCut.
    """
    report = Report(subject.name)
    begun = time.perf_counter()
    per_call = sum(1 if policy in FIXED else RANDOM_IMAGES for policy in options.get("policies", Policy))
    while True:
        chosen = None
        if images is not None:
            calls = PowerCut(subject, seed, Report(""), cut_after=()).run()
            wanted = -(-(images - report.images) // per_call)
            if wanted < calls:
                chosen = set(random.Random(seed).sample(range(1, calls + 1), wanted))
        run = PowerCut(subject, seed, report, cut_after=chosen, **options)
        run.run()
        seed += 1
        if run.done or images is None or report.images >= images:
            break
    report.seconds = time.perf_counter() - begun
    return report


def sync_sites(subject: Subject, seed: int = SEED, tries: int = 3) -> set[str]:
    """The sites of all syncs that the workloads of `tries` seeds make, in recoveries too."""
    return set().union(*(power_cut(subject, seed + number, second_cut_share=0.0).sites for number in range(tries)))


def site_mutants(
    subject: Subject, sites: Collection[str], seed: int = SEED, tries: int = 12
) -> dict[str, Failure | None]:
    """For each sync site: what a power cut finds when that sync is left out, or None if nobody notices.

    None means that the tests have a hole or that the sync is superfluous. `tries` workloads are run, at most: some syncs
    are missed in every second one only (toy.flush).
    """
    found: dict[str, Failure | None] = {}
    for site in sorted(sites):
        for number in range(tries):
            found[site] = _first_failure(subject, seed + number, skip_sites={site})
            if found[site] is not None:
                break
    return found


def _first_failure(subject: Subject, seed: int, **options: Any) -> Failure | None:
    """A mutant may also show itself with the power on: then the workload's own checks raise."""
    try:
        report = power_cut(subject, seed, stop_at_first=True, probe_share=0.5, second_cut_share=0.2, **options)
    except Exception as error:
        return Failure(Call(0, "workload", ""), Policy.EVERYTHING, f"{type(error).__name__}: {error}")
    return report.failures[0] if report.failures else None

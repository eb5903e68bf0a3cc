"""`python -m tests.crash [SUBJECT ...]`: the long power-cut run, with figures. Exit code 1 if anything fails.

python -m tests.crash                                   every subject of the table
python -m tests.crash path/to/file.py:Class             an engine of one's own; module:Class, too
python -m tests.crash lsm --seed 7 --images 200000      a night's run
python -m tests.crash lsm --only faults                 one of power, faults, damage, sites
python -m tests.crash --images 2000 --runs 200 --attempts 4000      a sample, drawn by the seed
python -m tests.crash lsm --call 212                    the images of one call only
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

from engines.errors import UnknownEngine
from engines.simenv import Policy, SimEnv
from tests.conformance.past_env import PastEnv, only_through_env
from tests.crash.damage import flip_every_byte
from tests.crash.faults import every_call_fails
from tests.crash.machine import ROOT, SEED, PowerCut, Report, Subject, power_cut, site_mutants, sync_sites
from tests.crash.subjects import SUBJECTS, subject_named

PARTS = ("power", "faults", "damage", "sites")
SHOWN = 5  # failures of each part; each is told in full


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Power cuts, errors and damage.")
    known = f"{', '.join(SUBJECTS)}, or an engine's place (path/to/file.py:Class)"
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"{known}; default: all of the table")
    parser.add_argument("--seed", type=int, default=SEED, help="default: METCD_SEED, or 0")
    parser.add_argument("--images", type=int, default=10_000, help="of power cuts, for each subject; default 10,000")
    parser.add_argument(
        "--runs", type=int, help="with a failing call, for each kind of failure; default: one for each call"
    )
    parser.add_argument("--attempts", type=int, help="of damage; default: every byte, in every way")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part of the run; may be repeated")
    parser.add_argument("--call", type=int, help="cut after this call of the workload only, and print every failure")
    parser.add_argument(
        "--log",
        action="append",
        metavar="PATTERN",
        help="names of an own engine's files whose end may be torn: damage in another file must be noticed; default: all",
    )
    options = parser.parse_args(arguments)
    failed = 0
    for name in options.subjects or SUBJECTS:
        try:
            subject = subject_named(name, options.log or ("*",))
        except (UnknownEngine, ValueError) as error:
            parser.error(f"no subject is called {name!r}, of {known}: {error}")
        failed += _look_at(subject, name, options)
    _legend()
    return 1 if failed else 0


def _look_at(subject: Subject, name: str, options: argparse.Namespace) -> int:
    """All parts of one subject; a workload that can't be run at all is one failure, told in a few lines."""
    try:
        with only_through_env(ROOT):
            _try_out(subject)
            if options.call is not None:
                return _one_call(subject, options.seed, options.call)
            return _run(subject, name, options)
    except PastEnv as error:
        print(f"  FAILED {error}")
    except Exception as error:
        print(f"  FAILED with the power on, before any cut: {type(error).__name__}: {error}")
        print("    " + "    ".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip())
    return 1


def _try_out(subject: Subject) -> None:
    """Raises PastEnv if the subject opens without a single call of its Env."""
    env = SimEnv()
    handle = subject.open(env)
    subject.apply(handle, subject.probe(subject.initial))
    subject.close(handle)
    if not env.calls:
        raise PastEnv("the engine has written something durable without one call of its Env: no test can cut the power")


def _run(subject: Subject, name: str, options: argparse.Namespace) -> int:
    """Runs the parts, prints a line for each, and returns the number of failures."""
    failed, seed, images, parts = 0, options.seed, options.images, options.only or PARTS
    print(f"{subject.name}: METCD_SEED={seed} python -m tests.crash {name} --images {images}", flush=True)
    if "power" in parts:
        report = power_cut(subject, seed, images=images)
        failed += _show("power cuts", report, report.failed, report.failures)
    if "faults" in parts:
        faults = every_call_fails(subject, seed, runs=options.runs)
        failed += _show("failing calls", faults, faults.failed, faults.failures)
    if "damage" in parts:
        damage = flip_every_byte(subject, seed, attempts=options.attempts)
        failed += _show("damaged bytes", damage, damage.failed, damage.failures)
    if "sites" in parts and failed:
        print(f"  {'fsyncs':14s} not looked at: what is lost with all of them says nothing of a single one")
    elif "sites" in parts:
        failed += _sites(subject, seed)
    return failed


def _show(title: str, report: object, failed: int, failures: Sequence[object], shown: int = SHOWN) -> int:
    """One failure of each moment, because the policies often agree."""
    print(f"  {title:14s} {report}", flush=True)
    moments = {str(failure).partition(",")[0].partition("): ")[0]: failure for failure in reversed(failures)}
    told = list(reversed(moments.values()))[:shown]
    for failure in told:
        print(f"    FAILED {failure}", flush=True)
    if failed > len(told):
        print(f"    and {failed - len(told):,} more")
    return failed


def _sites(subject: Subject, seed: int) -> int:
    """Leaves out each fsync in turn. One whose loss nobody notices is a failure: of the tests, or of the fsync."""
    begun = time.perf_counter()
    found = site_mutants(subject, sync_sites(subject, seed), seed)
    unneeded = [site for site, failure in found.items() if failure is None]
    seconds = time.perf_counter() - begun
    needed = (
        f"each of the {len(found)} fsyncs is needed: without it this is lost"
        if not unneeded
        else f"{len(unneeded)} of the {len(found)} fsyncs can be left out, and nothing is lost: a superfluous fsync, or a "
        "hole in the tests"
    )
    print(f"  {'fsyncs':14s} {needed} ({seconds:.1f} s)")
    for site, failure in found.items():
        print(f"    {site:32s} {failure or 'NOTHING is lost'}")
    return len(unneeded)


def _one_call(subject: Subject, seed: int, call: int) -> int:
    """The images of one moment, each of them probed and cut again."""
    report = Report(subject.name)
    PowerCut(subject, seed, report, cut_after={call}, probe_share=1.0, second_cut_share=1.0).run()
    return _show(f"call {call}", report, report.failed, report.failures, shown=len(report.failures))


def _legend() -> None:
    print("what is on the disk after a cut, by policy:")
    for policy in Policy:
        print(f"  {policy.value:20s} {policy.meaning}")


if __name__ == "__main__":
    sys.exit(main())

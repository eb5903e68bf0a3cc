"""`python -m tests.crash [SUBJECT ...]`: the long power-cut run, with figures. Exit code 1 if anything fails.

python -m tests.crash                                   every subject of the table
python -m tests.crash lsm --seed 7 --images 200000      a night's run
python -m tests.crash lsm --only faults                 one of power, faults, damage, sites
python -m tests.crash --images 2000 --runs 200 --attempts 4000      a sample, drawn by the seed
python -m tests.crash lsm --call 212                    the images of one call only
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.crash.damage import flip_every_byte
from tests.crash.faults import every_call_fails
from tests.crash.machine import SEED, PowerCut, Report, Subject, power_cut, site_mutants, sync_sites
from tests.crash.subjects import SUBJECTS

PARTS = ("power", "faults", "damage", "sites")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Power cuts, errors and damage.")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--seed", type=int, default=SEED, help="default: METCD_SEED, or 0")
    parser.add_argument("--images", type=int, default=10_000, help="of power cuts, for each subject; default 10,000")
    parser.add_argument(
        "--runs", type=int, help="with a failing call, for each kind of failure; default: one for each call"
    )
    parser.add_argument("--attempts", type=int, help="of damage; default: every byte, in every way")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part of the run; may be repeated")
    parser.add_argument("--call", type=int, help="cut after this call of the workload only, and print every failure")
    options = parser.parse_args(arguments)
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"no subject is called {', '.join(sorted(unknown))}: there is {', '.join(SUBJECTS)}")
    failed = 0
    for name in options.subjects or SUBJECTS:
        subject = SUBJECTS[name]()
        if options.call is not None:
            failed += _one_call(subject, options.seed, options.call)
        else:
            failed += _run(subject, options)
    return 1 if failed else 0


def _run(subject: Subject, options: argparse.Namespace) -> int:
    """Runs the parts, prints a line for each, and returns the number of failures."""
    failed, seed, images, parts = 0, options.seed, options.images, options.only or PARTS
    print(f"{subject.name}: METCD_SEED={seed} python -m tests.crash {subject.name} --images {images}", flush=True)
    if "power" in parts:
        report = power_cut(subject, seed, images=images)
        failed += _show("power cuts", report, report.failed, report.failures)
    if "faults" in parts:
        faults = every_call_fails(subject, seed, runs=options.runs)
        failed += _show("failing calls", faults, faults.failed, faults.failures)
    if "damage" in parts:
        damage = flip_every_byte(subject, seed, attempts=options.attempts)
        failed += _show("damaged bytes", damage, damage.failed, damage.failures)
    if "sites" in parts:
        failed += _sites(subject, seed)
    return failed


def _show(title: str, report: object, failed: int, failures: Sequence[object]) -> int:
    print(f"  {title:14s} {report}", flush=True)
    for failure in failures:
        print(f"    FAILED {failure}", flush=True)
    return failed


def _sites(subject: Subject, seed: int) -> int:
    begun = time.perf_counter()
    found = site_mutants(subject, sync_sites(subject, seed), seed)
    unnoticed = [site for site, failure in found.items() if failure is None]
    seconds = time.perf_counter() - begun
    needed = f"each of the {len(found)} is needed" if not unnoticed else f"{len(unnoticed)} of {len(found)} not noticed"
    print(f"  {'fsyncs':14s} {needed}, {seconds:.1f} s; without it, a power cut does this:")
    for site, failure in found.items():
        print(f"    {site:32s} {failure or 'NOTHING: the tests have a hole, or the fsync is superfluous'}")
    return len(unnoticed)


def _one_call(subject: Subject, seed: int, call: int) -> int:
    """The images of one moment, each of them probed and cut again."""
    report = Report(subject.name)
    PowerCut(subject, seed, report, cut_after={call}, probe_share=1.0, second_cut_share=1.0).run()
    return _show(f"call {call}", report, report.failed, report.failures)


if __name__ == "__main__":
    sys.exit(main())

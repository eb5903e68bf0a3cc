"""`python -m tests.cluster`: rounds of faults on three real nodes, with figures. Exit code 1 if one fails or is void.

python -m tests.cluster --rounds 10                     ten rounds, each of its own seed, with faults drawn from it
python -m tests.cluster --seed 7                        the round of one seed
python -m tests.cluster --seed 7 --fault deaf_leader    these faults, in this order
python -m tests.cluster --list                          the faults
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from server.config import NodeConfig
from tests.cluster.faults import FAULTS
from tests.cluster.node import ALL
from tests.cluster.processes import Failed
from tests.cluster.rounds import Plan, Report, VoidRound, play

__all__ = ["ROUNDS_WITH_ALL", "drawn", "main"]

FAULTS_OF_A_ROUND = 2
ROUNDS_WITH_ALL = -(-len(FAULTS) // FAULTS_OF_A_ROUND)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Faults on three real nodes.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("METCD_SEED", "0")), help="of the first round")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="in this order; default: drawn")
    parser.add_argument(
        "--tick", type=float, default=NodeConfig.tick_s, help="seconds of a Raft tick (default: %(default)s)"
    )
    parser.add_argument("--plant", choices=sorted(ALL), default="", help="a bug that the round must find")
    parser.add_argument("--directory", type=Path, help="where failed rounds are kept (default: a temporary one)")
    parser.add_argument("--list", action="store_true", help="the faults, and nothing else")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{name:36s}{(fault.__doc__ or '').strip()}".rstrip() for name, fault in FAULTS.items()))
        return 0
    directory = options.directory or Path(tempfile.mkdtemp(prefix="metcd-cluster-"))
    failed = 0
    for number in range(options.rounds):
        seed = options.seed + number
        faults = options.fault or drawn(seed)
        plan = Plan(seed, faults, tick_s=options.tick, plant=options.plant)
        begin = time.monotonic()
        print(f"round {seed}: {', '.join(faults)}", flush=True)
        try:
            _tell(play(plan, directory / f"round-{seed}"), time.monotonic() - begin)
        except Failed as error:
            failed += 1
            print(f"  {'VOID' if isinstance(error, VoidRound) else 'FAILED'} {error}")
            print("\n".join(f"  {line}" for note in error.__notes__ for line in note.splitlines()), flush=True)
    if not failed and options.directory is None:
        directory.rmdir()
    print(f"{options.rounds - failed} of {options.rounds} rounds passed")
    return 1 if failed else 0


def drawn(seed: int) -> list[str]:
    """The faults of a round: those of ROUNDS_WITH_ALL rounds in a row, from a multiple of it on, are all that there are."""
    names = sorted(FAULTS)
    shuffled = random.Random(f"faults {seed // ROUNDS_WITH_ALL}").sample(names, len(names))
    at = seed % ROUNDS_WITH_ALL * FAULTS_OF_A_ROUND
    return (shuffled + shuffled)[at : at + FAULTS_OF_A_ROUND]


def _tell(report: Report, seconds: float) -> None:
    verdict = report.verdict
    assert verdict is not None
    for line in report.told:
        print(f"  {line}")
    print(
        f"  {seconds:.0f} s; {verdict.operations:,} operations on {verdict.keys} keys are linearizable; before the faults "
        f"{min(report.rates):.0f} requests a second or more; served again within {max(report.recoveries):.2f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())

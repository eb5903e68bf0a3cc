"""`python -m bench`: what a mix of operations costs each engine, counted.

python -m bench                                        90 % gets and 10 % puts of 2,000 keys, zipfian
python -m bench --mix get=0.5,scan=0.5 --chooser uniform --keys 10000
python -m bench --engine lsm --engine btree --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence

import engines
from bench.choosers import Chooser, Latest, Uniform, Zipfian
from bench.counters import Costs, measure, table
from bench.workload import Kind, Mix, load, operations

__all__ = ["main"]

ENGINES = ("lsm", "btree", "bitcask")


def main(words: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser("python -m bench", description="What a mix of operations costs each engine.")
    parser.add_argument("--keys", type=_count, default=2_000, help="in the store before the run (2000)")
    parser.add_argument("--operations", type=_count, default=2_000, help="of the run (2000)")
    parser.add_argument(
        "--mix", type=_mix, default=Mix(get=0.9, put=0.1), help="get=0.9,put=0.1; also insert, delete, scan"
    )
    parser.add_argument("--chooser", choices=("uniform", "zipfian", "latest"), default="zipfian")
    parser.add_argument(
        "--engine", action="append", help="a name or path/to/file.py:Class; may be repeated (all three)"
    )
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args(words)
    costs = {}
    for where in told.engine or ENGINES:
        rng = random.Random(told.seed)  # the same work for each engine
        with tempfile.TemporaryDirectory(prefix="metcd-bench-") as directory:
            with engines.open(f"{directory}/store", where) as store:
                load(store, told.keys, rng)
            with engines.open(f"{directory}/store", where) as store:  # with empty caches
                work = list(operations(told.mix, _chooser(told, rng), told.operations, rng, keys=told.keys))
                costs[store.name] = Costs.of(measure(store, work))
    print(f"for each of {told.operations:,} operations on {told.keys:,} keys, {told.chooser}:")
    print(table(costs))
    return 0


def _chooser(told: argparse.Namespace, rng: random.Random) -> Chooser:
    if told.chooser == "uniform":
        return Uniform(told.keys)
    return (Zipfian if told.chooser == "zipfian" else Latest)(told.keys, rng)


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, and this is {number}")
    return number


def _mix(text: str) -> Mix:
    try:
        shares = {name.strip(): float(share) for name, _, share in (part.partition("=") for part in text.split(","))}
        if foreign := shares.keys() - {kind.value for kind in Kind}:
            raise ValueError(f"no operation is called {', '.join(sorted(foreign))}")
        return Mix(**shares)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())

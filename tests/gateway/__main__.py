"""`python -m tests.gateway`: plays the recorded situations of etcd's gateway, and prints the first difference of each.

python -m tests.gateway                                 all of them, on every engine: 1 node, or 3 where it was recorded so
python -m tests.gateway --nodes 1,3                     and those of one node on three nodes as well
python -m tests.gateway --engines memory put- range-    the situations whose names begin so, on one engine
python -m tests.gateway --etcd PATH                     a real etcd in place of ours, to judge the runner
python -m tests.gateway --list put-                     the situations, with what each tells

Exit code 1 if one differs that isn't in tests/gateway/exceptions.py, or if one passes that is.
"""

from __future__ import annotations

import argparse
import errno
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.gateway.exceptions import EXCEPTIONS, OF_ONE_NODE
from tests.gateway.nodes import Etcd, Nodes, Ours, System
from tests.gateway.runner import QUIET_S, Difference, play
from tests.gateway.transcripts import load, names

__all__ = ["main", "outcome"]

ATTEMPTS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gateway", description="Recorded answers of etcd's gateway.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a situation, or how its name begins")
    parser.add_argument(
        "--engines", default="lsm,btree,bitcask,memory", help="each is played on (default: %(default)s)"
    )
    parser.add_argument("--nodes", default="1", help="1, 3, or 1,3 (default: %(default)s)")
    parser.add_argument("--etcd", metavar="PATH", help="of a real etcd")
    parser.add_argument("--jobs", type=int, default=4, help="that are played at a time (default: %(default)s)")
    parser.add_argument("--quiet", type=float, default=QUIET_S, help="seconds in which nothing has to come")
    parser.add_argument("--list", action="store_true", help="the situations, and nothing else")
    options = parser.parse_args(arguments)
    chosen = [name for name in names() if not options.names or name.startswith(tuple(options.names))]
    if options.list:
        print("\n".join(f"{name:36s}{load(name)['tells']}" for name in chosen))
        return 0
    runs: list[tuple[str, str, System]] = []
    for label, system in systems(options):
        runs += [
            (name, label, system) for name in chosen if name not in OF_ONE_NODE or "1 node" in label or options.etcd
        ]
    begin = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda run: outcome(run[0], run[2], options.quiet), runs))
    failed = 0
    for (name, label, _), told in zip(runs, outcomes):
        excepted = name in EXCEPTIONS and not options.etcd
        if told is not None and not excepted:
            failed += 1
            print(f"{name} ({label}): {told}")
        elif told is None and excepted:
            failed += 1
            print(f"{name} ({label}): passes, and stands in tests/gateway/exceptions.py")
    print(f"{len(runs) - failed} of {len(runs)} pass, in {time.monotonic() - begin:.1f} s")
    return int(failed > 0)


def systems(options: argparse.Namespace) -> list[tuple[str, System]]:
    """What is played on, each with its name."""
    if options.etcd:
        return [("etcd", lambda count, flags: Etcd(count, flags, options.etcd))]
    engines = options.engines.split(",")
    return [
        (f"{engine}, {least} node{'s' * (least > 1)}", partial(_ours, engines=engines, first=at, least=least))
        for least in map(int, options.nodes.split(","))
        for at, engine in enumerate(engines)
    ]


def _ours(count: int, flags: list[str], engines: list[str], first: int, least: int) -> Nodes:
    """One node on one engine, or three on three, of which that is the first."""
    return Ours(max(count, least), flags, [*engines[first:], *engines[:first]])


def outcome(name: str, system: System, quiet_s: float = QUIET_S) -> str | None:
    """The first difference, in words; None if the situation passes."""
    for attempt in range(ATTEMPTS):
        try:
            play(name, system, quiet_s)
        except Difference as difference:
            return str(difference)
        except Exception as error:
            is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not is_taken or attempt == ATTEMPTS - 1:  # a port that was free a moment ago
                return f"{type(error).__name__}: {error}"
        else:
            return None
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())

"""The `metcd` command: a verb for each thing that one does with a node, a cluster, or the files of a store.

    metcd cluster                                        three nodes on this machine, until Ctrl-C
    metcd cluster --engines DIR:lsm,btree,bitcask        the same, on the packages of a directory
    metcd serve --id 1 --cluster URL,URL,URL --data DIR  one node, in the foreground
    metcd put hello world;  metcd get hello              as a client of a cluster
    metcd delete KEY;  metcd scan;  metcd status
    metcd transfer ID                                    has the leader hand over to a node
    metcd member list;  metcd member add|remove|promote|replace ID …
                                                         who takes part; metcd serve --id 4 --join URL --data DIR joins
    metcd load unicode                                   a real data set: the names of all Unicode characters
    metcd load FILE                                      lines as `metcd scan --ndjson` prints them
    metcd snapshot save FILE;  metcd snapshot restore FILE …;  metcd snapshot status FILE
                                                         the state of a cluster as a file, and a new cluster of it
    metcd export --to URL;  metcd import --from URL      all keys and leases, to a real etcd and from one
    metcd front --etcd URL,URL                           this interface over a real etcd cluster, without any state
    metcd check PATH;  metcd dump PATH;  metcd which PATH
                                                         the files of a store or of a node that isn't running
    metcd check --cluster                                whether all nodes of a cluster that runs have the same
    metcd repair PATH                                    a store that doesn't open any more, from what is whole
    metcd bench;  metcd bench compare A.json B.json      engines and peers side by side: times, counters, memory
    metcd advise --mix get=90,put=8,scan=2               which engine fits a mix of operations, and where that flips
    metcd trace --seed 7;  metcd trace SCRIPT            a run of Raft as a film: one page of HTML
    metcd learn COMMAND                                  the tutorial (server/__main__.py hands it over)

Exit status: 0 done; 1 not found, or the check found something, or the node failed; 2 the request is wrong, refused or
can't be carried out. What is wrong is said in one line. The verbs themselves are in server/verbs/; of these modules, only
the one whose verb is typed is imported: `metcd get` starts in 0.06 s in place of 0.23 s, `metcd serve` in 0.17 s.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

import engines
from server.cluster import ClusterError
from server.errors import NodeError
from server.verbs.words import UsageError

__all__ = ["MODULES", "main"]

# the modules of server/verbs and what each adds, in the order of --help
MODULES = {
    "nodes": ("serve", "cluster"),
    "clients": ("get", "put", "delete", "scan", "status"),
    "leader": ("transfer",),
    "members": ("member",),
    "dataset": ("load",),
    "files": ("check", "dump", "repair", "options", "which"),
    "snapshots": ("snapshot",),
    "etcds": ("export", "import", "front"),
    "bench": ("bench",),
    "advise": ("advise",),
    "trace": ("trace",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words[0] if words else "").parse_args(words)
    for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding doesn't have is escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except BrokenPipeError:  # the reader of the output has closed it (`metcd scan | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        return 1
    except (engines.StoreError, NodeError, UsageError, ClusterError, OSError) as error:
        full = (
            isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
        )  # a file has a name
        print(f"metcd: {'standard output: ' if full else ''}{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(typed: str) -> argparse.ArgumentParser:
    """The parser for a command line that begins with a verb; for any other first word, the one that knows them all."""
    parser = argparse.ArgumentParser(
        prog="metcd",
        description="A tiny etcd, to be read, run, broken and compared.",
        epilog="metcd learn: the tutorial, in which you write all of this yourself.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str, *words: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        for word in words:
            added.add_argument(word)
        return added

    asked = [module for module, names in MODULES.items() if typed in names]
    for module in asked or MODULES:
        importlib.import_module(f"server.verbs.{module}").add(verb)
    if not asked:
        parser.add_argument("--version", action="version", version=_version())
    return parser


def _version() -> str:
    """Imports what nothing else here needs, and what takes as long as the rest of this module."""
    from importlib.metadata import version
    from platform import python_version

    return f"metcd {version('metcd')}, Python {python_version()}"


if __name__ == "__main__":
    sys.exit(main())

"""The verb `check --cluster`: whether all nodes of a cluster that runs have the same."""

from __future__ import annotations

import argparse
import json

from server.compare import compare, compared_lines
from server.verbs.clients import add_endpoints, user_of

__all__ = ["add_cluster", "check_cluster"]


def add_cluster(check: argparse.ArgumentParser) -> None:
    """Adds what `metcd check` needs to look at a cluster instead of files."""
    check.add_argument("--cluster", action="store_true", help="compare the contents of all nodes, at one entry")
    check.add_argument("--json", action="store_true", help="with --cluster: for programs")
    add_endpoints(check)


def check_cluster(options: argparse.Namespace) -> int:
    """0: all nodes have the same. 1: a key differs. 2: some node was not compared, and the others have the same."""
    compared = compare(options.endpoints.split(","), options.timeout, user_of(options))
    if options.json:
        print(json.dumps(compared.report()))
    else:
        print(*compared_lines(compared), sep="\n")
    if compared.key is not None:
        return 1
    return 0 if compared.whole else 2

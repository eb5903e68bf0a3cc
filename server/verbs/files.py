"""Verbs about the files of a store, or of a node that isn't running: check, dump, repair, which; and options of engines."""

from __future__ import annotations

import argparse

from server import dump_pages, inspect
from server.engine_options import options_of_nodes
from server.verbs.compare import add_cluster, check_cluster
from server.verbs.words import AddVerb, UsageError, count, one_line

__all__ = ["add"]


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    files = [
        verb("check", _check, "verify the files of a store, or of a node that isn't running; or a whole cluster"),
        verb("dump", _dump, "show the bytes of a file and what they mean; changes nothing", "path"),
        verb("repair", _repair, "make a damaged store one that opens, from what is whole", "path"),
    ]
    for each in files:
        each.add_argument("--engine", help="a name, module:Class or path/to/file.py:Class (default: who recognises it)")
    check, dump = files[:2]
    check.add_argument("path", nargs="?", metavar="PATH")
    add_cluster(check)
    dump.add_argument("--page", type=count, default=1, help="which page of a long dump (default: 1)")
    limit = f"lines of a page; 0 is no limit (default: {dump_pages.LIMIT_LINES:,})"
    dump.add_argument("--limit", type=count, default=dump_pages.LIMIT_LINES, help=limit)
    dump.add_argument("--keys", action="store_true", help="the keys alone, with the sizes of their values")
    verb("options", _options, "list what an engine can be told: --option of serve and cluster", "engine")
    verb("which", _which, "say whose files these are; changes nothing", "path")


def _check(options: argparse.Namespace) -> int:
    if options.cluster == (options.path is not None):
        raise UsageError("metcd check takes the PATH of files, or --cluster")
    if options.cluster:
        return check_cluster(options)
    try:
        found = inspect.check(options.path, options.engine)
    except inspect.NotRecognised as error:
        return one_line(error)
    for sentence in found:
        print(sentence)
    count = "1 violation" if len(found) == 1 else f"{len(found)} violations"
    print(f"{options.path}: {count} found" if found else f"{options.path}: OK")
    return 1 if found else 0


def _dump(options: argparse.Namespace) -> int:
    if options.page < 1:
        raise UsageError("the first page is --page 1")
    try:
        if options.keys:
            lines = dump_pages.key_lines(options.path, options.engine)
        else:
            lines = inspect.dump(options.path, options.engine)
        for line in dump_pages.pages(options.path, lines, options.page, options.limit):
            print(line)
    except inspect.NotRecognised as error:
        return one_line(error)
    return 0


def _which(options: argparse.Namespace) -> int:
    try:
        print(inspect.what_is(options.path))
    except inspect.NotRecognised as error:
        return one_line(error)
    return 0


def _repair(options: argparse.Namespace) -> int:
    try:
        done = inspect.repair(options.path, options.engine)
        print(*done or [f"{options.path}: nothing needs to be repaired"], sep="\n")
    except inspect.NotRecognised as error:
        return one_line(error)
    return 0


def _options(options: argparse.Namespace) -> int:
    print(*options_of_nodes(options.engine).values(), sep="\n")
    return 0

"""Verbs of a client of a cluster: get, put, delete, scan, status."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from typing import Any

from server.client import Client
from server.cluster import FIRST_PORT, PORT_STEP
from server.errors import NodeError
from server.ndjson import pair_line
from server.status_table import status_lines
from server.verbs.words import AddVerb, UsageError

__all__ = ["add", "add_endpoints", "client_of", "user_of"]

STATUS_TIMEOUT_S = 2.0  # for each node that is asked how it is, unless --timeout says otherwise
DEFAULT_ENDPOINTS = ",".join(f"http://127.0.0.1:{FIRST_PORT + at * PORT_STEP}" for at in range(3))


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    clients = [
        verb("get", _get, "print the value of a key", "key"),
        verb("put", _put, "set a key", "key", "value"),
        verb("delete", _delete, "remove a key", "key"),
        verb("scan", _scan, "print pairs in the order of their keys"),
        verb("status", _status, "print what each node says of itself"),
    ]
    for each in clients:
        add_endpoints(each)
    get, scan = clients[0], clients[3]
    clients[4].set_defaults(timeout=STATUS_TIMEOUT_S)
    clients[4].add_argument("--json", action="store_true", help="for programs: a JSON object a line, for each node")
    for each in (get, scan):
        each.add_argument("--consistency", choices=("linearizable", "lease", "stale"), default="linearizable")
    for bound in ("start", "stop", "prefix"):
        scan.add_argument(f"--{bound}")
    scan.add_argument("--limit", type=int)
    scan.add_argument("--reverse", action="store_true")
    scan.add_argument("--ndjson", action="store_true", help="exact bytes in base64, as `metcd load` reads them")


def add_endpoints(verb: argparse.ArgumentParser) -> None:
    """The options of every verb that asks a cluster."""
    verb.add_argument(
        "--endpoints",
        default=os.environ.get("METCD_ENDPOINTS", DEFAULT_ENDPOINTS),
        help="URLs of nodes, asked in turn (default: METCD_ENDPOINTS, or the three of `metcd cluster`)",
    )
    verb.add_argument(
        "--user",
        default=os.environ.get("METCD_USER"),
        metavar="NAME[:PASSWORD]",
        help="for nodes whose authentication is on; without a password it is asked for (default: METCD_USER)",
    )
    verb.add_argument("--timeout", type=float, default=10.0, help="seconds for each request (default: %(default)s)")


def user_of(options: argparse.Namespace) -> str | None:
    """The user that the command line names, with the password, which is asked for once if it isn't there; None for none."""
    if options.user and ":" not in options.user:
        options.user = f"{options.user}:{getpass.getpass(f'password of {options.user}: ')}"
    return options.user or None


def client_of(options: argparse.Namespace) -> Client:
    """A client of the cluster that the command line names. Raises UsageError."""
    try:
        return Client(options.endpoints.split(","), timeout_s=options.timeout, user=user_of(options))
    except ValueError as error:
        raise UsageError(f"--endpoints: {error}") from None


def _get(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        value = client.get(os.fsencode(options.key), consistency=options.consistency)
    if value is None:
        print(f"metcd: there is no key {options.key!r}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(value + (b"\n" if sys.stdout.isatty() else b""))
    return 0


def _put(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        client.put(os.fsencode(options.key), os.fsencode(options.value))
    return 0


def _delete(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        client.delete(os.fsencode(options.key))
    return 0


def _scan(options: argparse.Namespace) -> int:
    bounds = {name: os.fsencode(text) for name in ("start", "stop", "prefix") if (text := getattr(options, name))}
    with client_of(options) as client:
        pairs = client.scan(**bounds, limit=options.limit, reverse=options.reverse, consistency=options.consistency)
        for key, value in pairs:
            if options.ndjson:
                print(pair_line(key, value).decode(), end="")
            else:
                print(key.decode(errors="backslashreplace"), value.decode(errors="backslashreplace"), sep="\t")
    return 0


def _status(options: argparse.Namespace) -> int:
    """The table of all nodes, or their JSON, a line each; 2 if none of them answers."""
    answers: list[tuple[str, dict[str, Any] | str]] = []
    for url in options.endpoints.split(","):
        with Client([url], timeout_s=options.timeout, user=user_of(options)) as client:
            try:
                answers.append((url, client.status()))
            except NodeError as error:
                answers.append((url, str(error)))
    if options.json:
        for url, answer in answers:
            if isinstance(answer, str):
                print(f"metcd: {url}: {answer}", file=sys.stderr)
            else:
                print(json.dumps({"url": url, **answer}))
    else:
        print(*status_lines(answers), sep="\n")
    return 2 if all(isinstance(answer, str) for _, answer in answers) else 0

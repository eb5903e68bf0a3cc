"""The verb member: who takes part in a cluster, and changes of that."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from server.client import Client, RequestRefused
from server.verbs.clients import add_endpoints, client_of
from server.verbs.words import AddVerb, UsageError

__all__ = ["add"]

SECRET = "(with --peer-secret-file, if the members have one)"
TURN_S = 0.2  # between two looks at whether a learner has caught up


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    verbs = verb("member", _list, "who takes part in a cluster, and changes of that").add_subparsers(
        required=True, metavar="VERB"
    )

    def one(name: str, run: Callable[[argparse.Namespace], int], text: str, *words: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        for word in words:
            added.add_argument(word, type=int if word == "id" else str)
        add_endpoints(added)
        return added

    one("list", _list, "print the members").add_argument("--json", action="store_true", help="for programs")
    adding = one("add", _add, "let a node in; start it then, with --join and an empty --data", "id", "url")
    adding.add_argument("--learner", action="store_true", help="without a vote, until it is promoted: what is safe")
    one("remove", _remove, "take a node out; it stops", "id")
    one("promote", _promote, "give a learner that has caught up its vote", "id")
    replacing = one("replace", _replace, "the same id with an empty directory: remove, add, wait, promote", "id", "url")
    replacing.add_argument(
        "--wait", type=float, default=600.0, help="seconds for it to catch up (default: %(default)s)"
    )


def _list(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        found = client.members()
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"cluster {found['cluster']}, node {found['leader']} leads")
    print(f"{'node':<6}{'peers reach it at':<34}{'role':<9}since")
    for each in found["members"]:
        since = f"entry {each['admitted']}" if each["admitted"] else "the beginning"
        role = "learner" if each["learner"] else "voter"
        print(f"{each['id']:<6}{each['peer_url']:<34}{role:<9}{since}")
    return 0


def _add(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        client.change_member("POST", options.id, "?learner=true" if options.learner else "", options.url)
    print(
        f"node {options.id} is in. Start it: metcd serve --id {options.id} --join {_first(options)} --data DIR {SECRET}"
    )
    return 0


def _remove(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        client.change_member("DELETE", options.id)
    print(f"node {options.id} is removed, and stops")
    return 0


def _promote(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        client.change_member("POST", options.id, "?promote=true")
    print(f"node {options.id} votes")
    return 0


def _replace(options: argparse.Namespace) -> int:
    """Goes on where it broke off: a learner at this URL that was let in anew is waited for, and promoted."""
    with client_of(options) as client:
        member = _member(client, options.id)
        if member is not None and not (member["learner"] and member["peer_url"] == options.url and member["admitted"]):
            client.change_member("DELETE", options.id)
            member = None
        if member is None:
            client.change_member("POST", options.id, "?learner=true", options.url)
        print(
            f"start node {options.id} now: metcd serve --id {options.id} --join {_first(options)} --data EMPTY {SECRET}",
            flush=True,
        )
        deadline = time.monotonic() + options.wait
        pause = threading.Event()
        while True:
            try:
                client.change_member("POST", options.id, "?promote=true")
                break
            except RequestRefused as error:
                if "not heard" not in str(error) and "not caught up" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise UsageError(f"{error}; the same command goes on from here") from None
                pause.wait(TURN_S)
    print(f"node {options.id} is replaced, and votes")
    return 0


def _member(client: Client, node_id: int) -> Any:
    return next((each for each in client.members()["members"] if each["id"] == node_id), None)


def _first(options: argparse.Namespace) -> str:
    return str(options.endpoints.split(",")[0])

"""The verb that hands over the leadership: transfer."""

from __future__ import annotations

import argparse

from server.logs import print_line
from server.verbs.clients import add_endpoints, client_of
from server.verbs.words import AddVerb

__all__ = ["add"]


def add(verb: AddVerb) -> None:
    """Adds the verb of this module."""
    transfer = verb("transfer", _transfer, "have the leader hand over to a node, by its number")
    transfer.add_argument("id", type=int, help="the node that is to lead")
    add_endpoints(transfer)


def _transfer(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        term = client.transfer(options.id)
    print_line(f"node {options.id} leads, in term {term}")
    return 0

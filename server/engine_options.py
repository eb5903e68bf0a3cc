"""`--option NAME=VALUE` of `metcd serve` and `metcd cluster`: what the nodes' engines are told when they are opened.

The engine's own declaration (engines/options.py) says what a text means and refuses what makes no sense, before anything
is opened. `sync`, `create` and `read_only` are the node's own: under Raft the log is what is synced, and a node writes.
Nor does the work of an engine that takes its time belong in the node's thread (FOR_NODES).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import engines
from engines.errors import InvalidOption
from engines.options import Option, from_text

__all__ = ["FOR_NODES", "engine_options", "options_of_nodes", "share_out"]

NODES_OWN = ("sync", "create", "read_only")
# Where an engine's own default isn't a node's. A merge within a write keeps the node's thread for 1.7 s (64 clients that PUT
# 1,000 keys): it was deposed meanwhile. In a thread of the engine's it is 0.5 s of slow answers.
FOR_NODES: dict[str, dict[str, Any]] = {"bitcask": {"merge": "thread"}}


def options_of_nodes(engine: str) -> dict[str, Option]:
    """The options of an engine that a node can be told, with what they are if nothing is said. Raises UnknownEngine."""
    own = FOR_NODES.get(engine, {})
    options = {name: option for name, option in engines.options(engine).items() if name not in NODES_OWN}
    return {name: replace(option, default=own.get(name, option.default)) for name, option in options.items()}


def engine_options(engine: str, words: Sequence[str]) -> dict[str, Any]:
    """["max_frozen=8"] as {"max_frozen": 8}, for NodeConfig; and FOR_NODES. Raises InvalidOption, UnknownEngine."""
    return {**FOR_NODES.get(engine, {}), **from_text(engine, options_of_nodes(engine), words)}


def share_out(nodes: Sequence[str], words: Sequence[str]) -> list[list[str]]:
    """The words for each node of a cluster, whose engines are `nodes`: those that name an option of its engine.

    Raises InvalidOption for a word that no engine takes, or that one of them refuses; UnknownEngine.
    """
    shares = [[word for word in words if word.partition("=")[0] in options_of_nodes(engine)] for engine in nodes]
    for engine, share in zip(nodes, shares):
        engine_options(engine, share)
    for word in words:
        if not any(word in share for share in shares):
            raise InvalidOption(f"none of the engines {', '.join(dict.fromkeys(nodes))} has an option as in {word!r}")
    return shares

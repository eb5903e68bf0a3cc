"""The verb snapshot: save the state of a cluster as a file, restore a new cluster from it, say what a file is."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
from collections.abc import Iterator

from tqdm import tqdm

from engines.env import real_env
from server.addresses import parse_url
from server.client_wire import credentials_of
from server.config import NodeConfig
from server.errors import NoLeader
from server.snapshot import Summary, save
from server.snapshot_hash import saved
from server.snapshot_restore import restore
from server.verbs.clients import add_endpoints, user_of
from server.verbs.nodes import peers_of
from server.verbs.words import AddVerb, UsageError

__all__ = ["add"]

PIECE_BYTES = 256 << 10


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    text = "save the state of a cluster as a file, or make a new cluster of one"
    verbs = verb("snapshot", _status, text).add_subparsers(required=True, metavar="VERB")

    saving = verbs.add_parser("save", help="the state of a running cluster, as a file")
    saving.set_defaults(run=_save)
    saving.add_argument("file")
    saving.add_argument("--consistency", choices=("linearizable", "lease", "stale"), default="linearizable")
    add_endpoints(saving)

    restoring = verbs.add_parser("restore", help="a data directory for a node of a new cluster, from a file")
    restoring.set_defaults(run=_restore)
    restoring.add_argument("file")
    restoring.add_argument("--data", required=True, help="the new directory; it must not be there yet")
    restoring.add_argument("--id", type=int, required=True, help="the node's number, 1 for the first URL of --cluster")
    restoring.add_argument("--cluster", required=True, help="the peer URL of every node, in the order of their numbers")
    restoring.add_argument("--engine", default="memory", help="a name, module:Class or path/to/file.py:Class")
    restoring.add_argument("--cluster-token", default="", help="what the new cluster's token begins with")

    telling = verbs.add_parser("status", help="what a snapshot file holds; verifies all of it")
    telling.set_defaults(run=_status)
    telling.add_argument("file")
    telling.add_argument("--json", action="store_true", help="for programs")


# ---- save -----------------------------------------------------------------------------------------------------------


class _CutOff(Exception):
    """What a node sent has ended before it was whole; another node may do better."""


def _save(options: argparse.Namespace) -> int:
    why: object = "none was asked"
    user = user_of(options)
    fields = {} if user is None else credentials_of(user)
    for url in options.endpoints.split(","):
        try:
            address = parse_url(url)
        except ValueError as error:
            raise UsageError(f"--endpoints: {error}") from None
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=options.timeout)) as connection:
            try:
                connection.request("GET", f"/_/snapshot?consistency={options.consistency}", headers=fields)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                why = f"{url}: {error!r}"
                continue
            if answer.status != 200:
                why = f"{url} answered {answer.status}: {_sentence(answer.read())}"
                continue
            try:
                summary = save(options.file, _pieces(answer))
            except _CutOff as error:
                why = f"{url}: {error}"
                continue
            _tell(options.file, summary, "saved")
            return 0
    raise NoLeader(f"no node has sent a whole snapshot, and {options.file} is as it was; the last one: {why}")


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, with a line that shows how much. Raises _CutOff."""
    with tqdm(unit="B", unit_scale=True, disable=None) as bar:
        while piece := _piece(answer):
            bar.update(len(piece))
            yield piece


def _piece(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(PIECE_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _CutOff(f"the answer broke off: {error!r}") from None


def _sentence(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:100])


# ---- restore, status ------------------------------------------------------------------------------------------------


def _restore(options: argparse.Namespace) -> int:
    peers = peers_of(options.cluster)
    if options.id not in peers:
        raise UsageError(f"--id {options.id} is not in the cluster: --cluster names the nodes 1 to {len(peers)}")
    token = options.cluster_token
    restored = restore(options.file, NodeConfig(options.id, peers, options.data, options.engine, cluster_token=token))
    _tell(options.file, restored.summary, f"restored into {options.data}")
    print(
        "All members are restored from this same file. This one starts with:\n"
        f"  metcd serve --id {options.id} --cluster {options.cluster} --data {options.data} --engine {options.engine} "
        f"--cluster-token {restored.token}"
    )
    return 0


def _status(options: argparse.Namespace) -> int:
    summary, _, hashed = saved(os.path.abspath(options.file), real_env())
    if options.json:
        print(json.dumps(_fields(summary)))
    else:
        _tell(options.file, summary, "whole, and its SHA-256 is right" if hashed else "whole")
    return 0


def _fields(summary: Summary) -> dict[str, object]:
    metadata = summary.metadata
    return {
        "index": metadata.index,
        "term": metadata.term,
        "voters": list(metadata.conf_state.voters),
        "learners": list(metadata.conf_state.learners),
        "pairs": summary.pairs,
        "pairs_bytes": summary.pairs_bytes,
        "file_bytes": summary.file_bytes,
        "checksum": f"{summary.checksum:08x}",
    }


def _tell(file: str, summary: Summary, what: str) -> None:
    metadata = summary.metadata
    print(
        f"{file}: {what}: index {metadata.index}, term {metadata.term}, {summary.pairs:,} pairs (our own keys among them) "
        f"with {summary.pairs_bytes:,} bytes, a file of {summary.file_bytes:,} bytes, checksum {summary.checksum:08x}"
    )

"""/health, /version and /metrics, as etcd has them beside its gateway.

    GET /health     200 {"health":"true","reason":""}; 503 while an alarm is raised, nobody leads, or a read isn't confirmed
                    ?exclude=NOSPACE passes over one alarm of that kind; ?serializable=true asks the others for no read
    GET /version    {"etcdserver":"3.5.1","etcdcluster":"3.5.0"}: what this server answers as
    /metrics        Prometheus's text, by any method: etcd's names, where they mean the same, and then all of ours

1. Another method than GET is 405 with etcd's plain text; OPTIONS is 200, for browsers, also of /metrics. Parameters that aren't
   known are passed over, as etcd does. PUT and DELETE of /metrics don't come here (server/routes.py): etcd answers them 200, and
   who meant a key would believe that it was written.
2. /health also says false, with the reason of "no leader", until this node has published what it is: etcd serves no client
   before that. GET /_/health is our own, and says more.
3. While authentication is on, these three stay open, as etcd's are: they tell nothing of what is stored.

Metrics that mean something else here, or that nobody counts, are left out; the module says of each which of ours it is.
Follows etcd's server/etcdserver/api/etcdhttp (metrics.go, version.go), and server/etcdserver/metrics.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from server.answers import Answer
from server.errors import NodeError
from server.metrics import Metrics, describe, labelled, render
from server.request import percent_decode
from server.v3 import status
from server.v3.alarms import kind_name
from server.v3.version import CLUSTER_VERSION, SERVER_VERSION

__all__ = ["PATHS", "Serving", "about_the_node", "etcd_metrics"]

PATHS = (b"/health", b"/version", b"/metrics")
READ_S = 7.0  # etcd's own timeout of a request

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
ERROR_TEXT = TEXT + b"X-Content-Type-Options: nosniff\r\n"
PROMETHEUS = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
JSON = b"Content-Type: application/json\r\n"

# etcd's name: which of ours it is
_SAME = {
    "etcd_disk_backend_commit_duration_seconds": "apply_duration_seconds",
    "etcd_disk_wal_fsync_duration_seconds": "wal_fsync_duration_seconds",
    "etcd_disk_wal_write_bytes_total": "wal_written_bytes_total",
    "etcd_mvcc_db_total_size_in_use_in_bytes": "engine_live_bytes",
    "etcd_server_is_leader": "is_leader",
    "etcd_server_leader_changes_seen_total": "leader_changes_total",
    "etcd_server_proposals_applied_total": "applied_index",
    "etcd_server_proposals_committed_total": "commit_index",
}

describe(
    {
        "etcd_cluster_version": "Which version is running. 1 for 'cluster_version' label with current cluster version",
        "etcd_debugging_auth_revision": "The current revision of auth store.",
        "etcd_debugging_mvcc_compact_revision": "The compacted revision; -1 if nothing was compacted.",
        "etcd_debugging_mvcc_current_revision": "The current revision of the keys.",
        "etcd_disk_backend_commit_duration_seconds": "What it takes to write a batch of applied entries to the engine.",
        "etcd_disk_wal_fsync_duration_seconds": "What an fsync of the Raft log takes.",
        "etcd_disk_wal_write_bytes_total": "Bytes that were written to the Raft log.",
        "etcd_mvcc_db_total_size_in_bytes": "Bytes that the engine takes, without room that its files have for later.",
        "etcd_mvcc_db_total_size_in_use_in_bytes": "Bytes of them that a reader can reach.",
        "etcd_server_has_leader": "1 if this node knows a leader, else 0.",
        "etcd_server_health_failures": "How often /health said false.",
        "etcd_server_health_success": "How often /health said true.",
        "etcd_server_id": "1 for the 'server_id' label with this node's id in hexadecimal.",
        "etcd_server_is_leader": "1 if this node leads, else 0.",
        "etcd_server_is_learner": "1 if this node has no vote, else 0.",
        "etcd_server_leader_changes_seen_total": "Leaders that this node has begun to follow, or to be.",
        "etcd_server_proposals_applied_total": "Index of the last entry that is in the engine.",
        "etcd_server_proposals_committed_total": "Index of the last entry that is known to be committed.",
        "etcd_server_quota_backend_bytes": "So many bytes the engine may take; left out where that has no bound.",
        "etcd_server_version": "1 for the 'server_version' label with the version that this server answers as.",
    }
)


class Serving(Protocol):
    """The part of a front end that is asked here."""

    @property
    def node(self) -> Any: ...
    def metrics(self) -> Metrics: ...


def about_the_node(server: Serving, method: bytes, path: bytes, query: bytes) -> Answer:
    """The answer to a request for one of PATHS. It may wait for a read barrier, so not in the node's thread.

    query: what follows the "?", not decoded.
    """
    if method == b"OPTIONS":
        return Answer(200)
    if path == b"/metrics":
        return Answer(200, _metrics(server), PROMETHEUS)
    if method != b"GET":
        return Answer(405, b"Method Not Allowed\n", b"Allow: GET\r\n" + ERROR_TEXT)
    if path == b"/version":
        return Answer(200, _json({"etcdserver": SERVER_VERSION, "etcdcluster": CLUSTER_VERSION}), JSON)
    options = [(percent_decode(name), percent_decode(text)) for name, text in _pairs(query)]
    reason = _why_unhealthy(server.node.etcd, options)
    server.node.etcd.standing.health.count(not reason)
    if reason:
        return Answer(503, _json({"health": "false", "reason": reason}) + b"\n", ERROR_TEXT)
    return Answer(200, _json({"health": "true", "reason": ""}), TEXT)


def _json(fields: dict[str, str]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _pairs(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    for part in query.split(b"&"):
        name, _, text = part.partition(b"=")
        yield name, text


def _why_unhealthy(etcd: Any, options: list[tuple[bytes, bytes]]) -> str:
    excluded = {text.decode("ascii", "replace") for name, text in options if name == b"exclude"}
    for _, kind in etcd.alarms.raised:
        if (name := kind_name(kind)) not in excluded:
            return f"ALARM {name}"
        excluded.remove(name)  # as in etcd, the same alarm of a second member counts
    if not etcd.inside.raft.lead or not etcd.standing.published:
        return "RAFT NO LEADER"
    if (b"serializable", b"true") not in options:
        try:
            etcd.barrier(READ_S)
        except NodeError:
            return f"RANGE ERROR:{status.TIMEOUT.sentence}"
    return ""


def _metrics(server: Serving) -> Iterator[bytes]:
    ours = server.node.metrics()
    yield render([etcd_metrics(server.node, ours)])
    yield render([ours, server.metrics()])


def etcd_metrics(node: Any, ours: Metrics) -> Metrics:
    """etcd's metrics of a node. ours: the node's own."""
    etcd, counts = node.etcd, node.etcd.standing.health
    state = node.machine.revisions
    own = node.members.book.members.get(node.id)
    return {
        labelled("etcd_cluster_version", cluster_version=CLUSTER_VERSION.rpartition(".")[0]): 1,
        labelled("etcd_server_version", server_version=SERVER_VERSION): 1,
        labelled("etcd_server_id", server_id=f"{node.id:x}"): 1,
        "etcd_debugging_auth_revision": etcd.auth.table.revision,
        "etcd_debugging_mvcc_compact_revision": -1 if state is None else state.compacted,
        "etcd_debugging_mvcc_current_revision": node.machine.revision,
        "etcd_server_has_leader": int(etcd.inside.raft.lead != 0),
        "etcd_server_is_learner": int(own is not None and own.learner),
        "etcd_server_health_failures": counts.failures,
        "etcd_server_health_success": counts.success,
        "etcd_mvcc_db_total_size_in_bytes": node.machine.store.size_bytes(),
        **({"etcd_server_quota_backend_bytes": quota} if (quota := node.config.quota_bytes) else {}),
        **{name: ours[same] for name, same in _SAME.items() if same in ours},
    }

"""server/v3/monitoring.py: /health, /version and /metrics as etcd 3.5.1 answers them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.errors import NoLeader
from server.mvcc_rows import State
from server.v3.alarms import Alarms
from server.v3.monitoring import about_the_node
from server.v3.rpc import AlarmRequest, AlarmType
from server.v3.standing import HealthCounts
from tests.server.local_nodes import LocalCluster

ACTIVATE = AlarmRequest.AlarmAction.ACTIVATE


class Fake:
    """A node, its Etcd, and what stands in front of them, all in one."""

    def __init__(self) -> None:
        self.node = self.etcd = self.standing = self.machine = self
        self.alarms = Alarms()
        self.health = HealthCounts()
        self.inside = self.raft = self
        self.published, self.lead, self.confirmed = True, 1, True
        self.barriers = 0

    def barrier(self, timeout_s: float) -> None:
        self.barriers += 1
        if not self.confirmed:
            raise NoLeader("nobody answers")


def get(server: Any, path: bytes, method: bytes = b"GET") -> tuple[int, bytes, bytes]:
    answer = about_the_node(server, method, *path.partition(b"?")[::2])
    status, body, headers = answer.status, answer.body, answer.headers
    return status, body if isinstance(body, bytes) else b"".join(body), headers


def test_healthy() -> None:
    fake = Fake()
    assert get(fake, b"/health") == (
        200, b'{"health":"true","reason":""}', b"Content-Type: text/plain; charset=utf-8\r\n",
    )  # fmt: skip
    assert (fake.health.success, fake.health.failures, fake.barriers) == (1, 0, 1)
    get(fake, b"/health?serializable=true")
    assert fake.barriers == 1


@pytest.mark.parametrize(
    "change, path, reason",
    [
        ({"lead": 0}, b"/health", "RAFT NO LEADER"),
        ({"lead": 0}, b"/health?serializable=true", "RAFT NO LEADER"),
        ({"published": False}, b"/health", "RAFT NO LEADER"),
        ({"confirmed": False}, b"/health", "RANGE ERROR:etcdserver: request timed out"),
        ({"confirmed": False}, b"/health?serializable=false&x=1", "RANGE ERROR:etcdserver: request timed out"),
    ],
)
def test_unhealthy(change: dict[str, Any], path: bytes, reason: str) -> None:
    fake = Fake()
    for name, value in change.items():
        setattr(fake, name, value)
    status, body, headers = get(fake, path)
    assert (status, json.loads(body)) == (503, {"health": "false", "reason": reason}) and body.endswith(b"}\n")
    assert headers.endswith(b"X-Content-Type-Options: nosniff\r\n")
    assert (fake.health.success, fake.health.failures) == (0, 1)


def test_an_alarm_is_a_reason_unless_it_is_excluded() -> None:
    fake = Fake()
    fake.alarms.change(AlarmRequest(ACTIVATE, 1, AlarmType.NOSPACE))
    fake.alarms.written()
    assert json.loads(get(fake, b"/health")[1])["reason"] == "ALARM NOSPACE"
    assert get(fake, b"/health?exclude=CORRUPT")[0] == 503
    assert get(fake, b"/health?exclude=CORRUPT&exclude=NOSP%41CE")[0] == 200


def test_an_exclusion_is_for_the_alarm_of_one_member() -> None:
    """As etcd's: health-exclude-two-members."""
    fake = Fake()
    for member in (1, 2):
        fake.alarms.change(AlarmRequest(ACTIVATE, member, AlarmType.NOSPACE))
    fake.alarms.written()
    assert json.loads(get(fake, b"/health?exclude=NOSPACE")[1])["reason"] == "ALARM NOSPACE"
    assert get(fake, b"/health?exclude=NOSPACE&exclude=NOSPACE")[0] == 503


@pytest.mark.parametrize("path", [b"/health", b"/version"])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"HEAD"])
def test_only_get(path: bytes, method: bytes) -> None:
    status, body, headers = get(Fake(), path, method)
    assert (status, body) == (405, b"Method Not Allowed\n") and headers.startswith(b"Allow: GET\r\n")


def test_browsers_that_ask_beforehand() -> None:
    assert get(Fake(), b"/health", b"OPTIONS") == (200, b"", b"")
    assert get(Fake(), b"/metrics", b"OPTIONS") == (200, b"", b"")


def test_version() -> None:
    assert get(Fake(), b"/version?anything") == (
        200, b'{"etcdserver":"3.5.1","etcdcluster":"3.5.0"}', b"Content-Type: application/json\r\n",
    )  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalCluster(tmp_path_factory.mktemp("metrics"), ("btree",)) as nodes:
        node: Any = nodes.leader()
        nodes.put(node, b"a", b"1")
        node.etcd.barrier()

        class Front:
            def metrics(self) -> dict[str, int]:
                return {}

        front: Any = Front()
        front.node = node
        yield get(front, b"/metrics", b"POST")[1].decode()


def test_metrics_begin_as_etcds(text: str) -> None:
    head = (
        "# HELP etcd_cluster_version Which version is running. 1 for 'cluster_version' label with current cluster version\n"
        '# TYPE etcd_cluster_version gauge\netcd_cluster_version{cluster_version="3.5"} 1\n'
        "# HELP etcd_debugging_auth_revision The current revision of auth store.\n"
        "# TYPE etcd_debugging_auth_revision gauge\netcd_debugging_auth_revision 1\n"
    )
    assert text.startswith(head)


def test_metrics_have_etcds_names_beside_ours(text: str) -> None:
    samples = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
    assert samples["etcd_server_has_leader"] == samples["etcd_server_is_leader"] == samples["metcd_is_leader"] == 1
    assert samples["etcd_server_proposals_applied_total"] == samples["metcd_applied_index"] > 0
    assert samples["etcd_debugging_mvcc_current_revision"] >= 1
    assert samples["etcd_debugging_mvcc_compact_revision"] == State().compacted
    assert samples["etcd_mvcc_db_total_size_in_bytes"] == samples["metcd_engine_disk_bytes"] > 0
    assert (
        samples["etcd_disk_wal_fsync_duration_seconds_count"] == samples["metcd_wal_fsync_duration_seconds_count"] > 0
    )
    assert "Not described" not in text

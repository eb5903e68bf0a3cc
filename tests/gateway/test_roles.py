"""Every route, of etcd's gateway and of the simple interface, times every kind of client, over HTTP, while authentication is on.

The rows are held against the tables of routes: a route without a row fails, and so does one that lets through who isn't named
in its row. Nobody, a wrong token and one whose time is over are named nowhere but at what is open.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from server import cli
from server.client import Client
from server.config import NodeConfig
from server.errors import NodeError
from server.http import FrontEnd
from server.node import Node
from server.routes import KEY_ROUTES, NUMBERED, ROUTES
from server.v3.passwords import Passwords
from server.v3.rpc import InternalRaftRequest, LeaseGrantRequest
from server.v3.services import TABLE
from server.v3.tokens import TOKEN_S
from tests.server.local_nodes import eventually, free_ports

NOBODY, BAD, EXPIRED, READER, WRITER, ROOT = "nobody", "bad token", "expired token", "reader", "writer", "root"
ROLES = (NOBODY, BAD, EXPIRED, READER, WRITER, ROOT)
EVERYBODY, USERS, ROOT_ONLY = {*ROLES}, {READER, WRITER, ROOT}, {ROOT}
READERS, WRITERS = {READER, ROOT}, {WRITER, ROOT}


def b(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PREFIX, AFTER = "p/", "p0"  # READER reads it, WRITER writes it
KEY, ELSEWHERE = {"key": b("p/a")}, {"key": b("q")}
RANGE = {"key": b(PREFIX), "range_end": b(AFTER)}
BEYOND = {"key": b(PREFIX), "range_end": b("p1")}
REVOKED, KEPT, THEIRS = 77, 78, 79  # leases with a key of the prefix, and of what only root may touch
LEADER = {"leader": {"name": b("p/x"), "key": b("p/x/1"), "rev": 1, "lease": 9}}

V3: list[tuple[str, Any, set[str]]] = [
    ("kv/range", KEY, READERS),
    ("kv/range", RANGE, READERS),
    ("kv/range", BEYOND, ROOT_ONLY),
    ("kv/range", {**KEY, "range_end": b("\0"), "count_only": True}, ROOT_ONLY),
    ("kv/range", {**RANGE, "serializable": True}, READERS),
    ("kv/range", {**ELSEWHERE, "serializable": True, "keys_only": True}, ROOT_ONLY),
    ("kv/put", KEY, WRITERS),
    ("kv/put", {**KEY, "prev_kv": True}, ROOT_ONLY),
    ("kv/put", {**KEY, "lease": KEPT}, WRITERS),
    ("kv/put", {**KEY, "lease": THEIRS}, ROOT_ONLY),
    ("kv/put", ELSEWHERE, ROOT_ONLY),
    ("kv/deleterange", {**KEY, "range_end": b("p/b")}, WRITERS),
    ("kv/deleterange", {**KEY, "range_end": b("p/b"), "prev_kv": True}, ROOT_ONLY),
    ("kv/deleterange", {"key": b("p/x"), "range_end": b("p1")}, ROOT_ONLY),
    ("kv/txn", {"success": [{"request_range": KEY}]}, READERS),
    ("kv/txn", {"failure": [{"request_range": ELSEWHERE}]}, ROOT_ONLY),
    ("kv/txn", {"success": [{"request_put": KEY}]}, WRITERS),
    ("kv/txn", {"success": [{"request_put": {**KEY, "prev_kv": True}}]}, ROOT_ONLY),
    ("kv/txn", {"compare": [{**ELSEWHERE, "version": "1", "target": "VERSION"}]}, ROOT_ONLY),
    ("kv/txn", {"success": [{"request_txn": {"success": [{"request_range": RANGE}]}}]}, READERS),
    ("kv/txn", {"success": [{"request_txn": {"failure": [{"request_range": ELSEWHERE}]}}]}, ROOT_ONLY),
    ("kv/txn", {"success": [{"request_txn": {"failure": [{"request_put": ELSEWHERE}]}}]}, ROOT_ONLY),
    ("kv/txn", {}, USERS),
    ("kv/compaction", {"revision": 1}, USERS),
    ("watch", {"create_request": KEY}, READERS),
    ("watch", {"create_request": {**RANGE, "prev_kv": True}}, READERS),
    ("watch", {"create_request": BEYOND}, ROOT_ONLY),
    ("watch", {"create_request": {}}, ROOT_ONLY),
    ("lease/grant", {"TTL": 600}, USERS),
    ("lease/keepalive", {"ID": KEPT}, WRITERS),
    ("lease/keepalive", {"ID": THEIRS}, ROOT_ONLY),
    ("lease/revoke", {"ID": THEIRS}, ROOT_ONLY),
    ("lease/timetolive", {"ID": KEPT}, USERS),
    ("lease/timetolive", {"ID": KEPT, "keys": True}, READERS),
    ("kv/lease/timetolive", {"ID": KEPT, "keys": True}, READERS),
    ("lease/leases", {}, USERS),
    ("kv/lease/leases", {}, USERS),
    ("lease/revoke", {"ID": REVOKED}, WRITERS),
    ("kv/lease/revoke", {"ID": REVOKED}, {READER, WRITER, ROOT}),  # it is gone
    ("cluster/member/list", {}, USERS),
    ("cluster/member/add", {"peerURLs": ["http://127.0.0.1:9"], "isLearner": True}, ROOT_ONLY),
    ("cluster/member/remove", {"ID": 5}, ROOT_ONLY),
    ("cluster/member/update", {"ID": 5, "peerURLs": ["http://127.0.0.1:9"]}, ROOT_ONLY),
    ("cluster/member/promote", {"ID": 5}, ROOT_ONLY),
    ("maintenance/alarm", {}, USERS),
    ("maintenance/alarm", {"action": "ACTIVATE", "memberID": 1, "alarm": "CORRUPT"}, ROOT_ONLY),
    ("maintenance/alarm", {"action": "DEACTIVATE", "memberID": 1, "alarm": "CORRUPT"}, ROOT_ONLY),
    ("maintenance/status", {}, EVERYBODY),
    ("maintenance/defragment", {}, ROOT_ONLY),
    ("maintenance/hash", {}, ROOT_ONLY),
    ("maintenance/hashkv", {}, ROOT_ONLY),
    ("maintenance/snapshot", {}, ROOT_ONLY),
    ("maintenance/transfer-leadership", {"targetID": 5}, ROOT_ONLY),
    ("maintenance/downgrade", {"action": "CANCEL"}, ROOT_ONLY),
    ("lock/lock", {"name": b("p/lock"), "lease": KEPT}, ROOT_ONLY),  # it reads and writes
    ("lock/unlock", {"key": b("p/lock/1")}, WRITERS),
    ("election/campaign", {"name": b("p/x"), "lease": KEPT}, ROOT_ONLY),
    ("election/proclaim", LEADER, ROOT_ONLY),
    ("election/leader", {"name": b("p/x")}, READERS),
    ("election/observe", {"name": b("p/x")}, READERS),
    ("election/resign", LEADER, ROOT_ONLY),
    ("auth/authenticate", {"name": "reader", "password": "wrong"}, EVERYBODY),
    ("auth/status", {}, ROOT_ONLY),
    ("auth/user/add", {"name": "new", "options": {"no_password": True}}, ROOT_ONLY),
    ("auth/user/get", {"name": "reader"}, READERS),
    ("auth/user/list", {}, ROOT_ONLY),
    ("auth/user/changepw", {"name": "nobody-has-this-name", "password": "p"}, ROOT_ONLY),
    ("auth/user/grant", {"user": "new", "role": "reads"}, ROOT_ONLY),
    ("auth/user/revoke", {"name": "new", "role": "reads"}, ROOT_ONLY),
    ("auth/user/delete", {"name": "new"}, ROOT_ONLY),
    ("auth/role/add", {"name": "new"}, ROOT_ONLY),
    ("auth/role/get", {"role": "writes"}, WRITERS),
    ("auth/role/list", {}, ROOT_ONLY),
    ("auth/role/grant", {"name": "new", "perm": KEY}, ROOT_ONLY),
    ("auth/role/revoke", {"role": "new", **KEY}, ROOT_ONLY),
    ("auth/role/delete", {"role": "new"}, ROOT_ONLY),
    ("auth/enable", {}, ROOT_ONLY),
]
LAST = ("auth/disable", {}, ROOT_ONLY)

BATCH = json.dumps({"op": "put", "key": b("p/a"), "value": ""})
SIMPLE: list[tuple[str, str, str | None, set[str]]] = [
    ("GET", "/p/a", None, READERS),
    ("HEAD", "/p/a", None, READERS),
    ("GET", "/p/a?consistency=stale", None, READERS),
    ("GET", "/p0", None, ROOT_ONLY),
    ("PUT", "/p/a", "1", WRITERS),
    ("PUT", "/p/a?wait=false", "1", WRITERS),
    ("PUT", "/q", "1", ROOT_ONLY),
    ("DELETE", "/p/a", None, WRITERS),
    ("DELETE", "/q", None, ROOT_ONLY),
    ("GET", "/_/scan?prefix=p/", None, READERS),
    ("GET", "/_/scan?start=p/&stop=p0", None, READERS),
    ("GET", "/_/scan?start=p/&stop=p1", None, ROOT_ONLY),
    ("GET", "/_/scan", None, ROOT_ONLY),
    ("POST", "/_/batch", BATCH, WRITERS),
    ("POST", "/_/batch", BATCH + "\n" + json.dumps({"op": "delete", "key": b("q")}), ROOT_ONLY),
    ("POST", "/_/digest", None, ROOT_ONLY),
    ("GET", "/_/digest?index=1", None, ROOT_ONLY),
    ("POST", "/_/sessions", None, USERS),
    ("GET", "/_/members", None, USERS),
    ("POST", "/_/members/1", "http://127.0.0.1:9", ROOT_ONLY),
    ("PUT", "/_/members/5", "http://127.0.0.1:9", ROOT_ONLY),
    ("DELETE", "/_/members/5", None, ROOT_ONLY),
    ("POST", "/_/leader/1", None, ROOT_ONLY),
    ("GET", "/_/snapshot", None, ROOT_ONLY),
    ("GET", "/_/status", None, EVERYBODY),
    ("GET", "/_/health", None, EVERYBODY),
    ("GET", "/health", None, EVERYBODY),
    ("GET", "/version", None, EVERYBODY),
    ("GET", "/metrics", None, EVERYBODY),
    ("GET", "/_/metrics", None, EVERYBODY),
    ("GET", "/_/page", None, ROOT_ONLY),
    ("GET", "/_/page/page.js", None, ROOT_ONLY),
    ("GET", "/_/feed", None, ROOT_ONLY),
    ("GET", "/_/describe", None, ROOT_ONLY),
    ("GET", "/_/explain?key=p/a", None, ROOT_ONLY),
    ("GET", "/_/bytes", None, ROOT_ONLY),
]
REFUSALS = ("user name is empty", "permission denied", "invalid auth token", "PermissionDenied")


class Asked(NamedTuple):
    status: int
    body: bytes

    @property
    def refused(self) -> bool:
        return self.status in (401, 403) or any(words.encode() in self.body for words in REFUSALS)


class Served:
    """One node whose authentication is on, and its clients."""

    def __init__(self, directory: Path) -> None:
        config = NodeConfig(1, {1: ("127.0.0.1", free_ports(1)[0])}, str(directory / "node"), "memory", tick_s=0.02)
        self.node = Node(config)
        self.front = FrontEnd(self.node, ("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.front.address[1]}"
        self.node.start()
        self.front.start()
        self.tokens: dict[str, str | None] = {NOBODY: None, BAD: "bad.1"}

    def ask(self, method: str, target: str, body: str | None = None, authorization: str | None = None) -> Asked:
        """The answer; of one that streams its first bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.front.address[1], timeout=30)
        try:
            fields = {} if authorization is None else {"Authorization": authorization}
            connection.request(method, target, body, fields)
            answer = connection.getresponse()
            return Asked(answer.status, answer.read1(1 << 16) if method != "HEAD" else b"")
        finally:
            connection.close()

    def call(self, path: str, body: Any, role: str | None = None) -> Asked:
        token = None if role is None else self.tokens[role]
        return self.ask("POST", f"/v3/{path}", json.dumps(body), token)

    def prepare(self) -> None:
        eventually("it leads", lambda: self.call("kv/put", {"key": b("p/a"), "value": b("1")}).status == 200)
        for lease, prefix in ((REVOKED, "p/"), (KEPT, "p/"), (THEIRS, "q/")):
            self.node.etcd.request(InternalRaftRequest(lease_grant=LeaseGrantRequest(600, lease)))
            assert self.call("kv/put", {"key": b(f"{prefix}{lease}"), "lease": lease}).status == 200
        for kind, name, role in (("READ", "reader", "reads"), ("WRITE", "writer", "writes")):
            perm = {"permType": kind, **RANGE}
            for path, body in (
                ("auth/user/add", {"name": name, "password": name}),
                ("auth/role/add", {"name": role}),
                ("auth/role/grant", {"name": role, "perm": perm}),
                ("auth/user/grant", {"user": name, "role": role}),
            ):
                assert self.call(path, body).status == 200
        assert self.call("auth/user/add", {"name": "root", "password": "root"}).status == 200
        assert self.call("auth/user/grant", {"user": "root", "role": "root"}).status == 200
        self.enable()

    def enable(self) -> None:
        assert self.call("auth/enable", {}).status == 200
        self.tokens[EXPIRED] = self.login("root")
        tokens = self.node.etcd.auth.tokens
        now = tokens._now
        tokens._now = lambda: now() + TOKEN_S
        self.tokens |= {name: self.login(name) for name in (READER, WRITER, ROOT)}

    def login(self, name: str) -> str:
        return str(json.loads(self.call("auth/authenticate", {"name": name, "password": name}).body)["token"])

    def close(self) -> None:
        self.front.stop()
        self.node.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as cheap:
        cheap.setattr(Passwords.__init__, "__defaults__", (2,))
        server = Served(tmp_path_factory.mktemp("roles"))
        try:
            server.prepare()
            yield server
        finally:
            server.close()


def test_every_route_has_a_row():
    rows = {f"/v3/{path}".encode() for path, _, _ in [*V3, LAST]}
    assert set(TABLE) <= rows
    simple = {(method, target.partition("?")[0]) for method, target, _, _ in SIMPLE}
    for path, routes in ROUTES.items():
        assert {(method.decode(), path.decode()) for method in routes} <= simple
    for path, routes in NUMBERED.items():
        for method in routes:
            assert any(each == method.decode() and target.startswith(path.decode()) for each, target in simple), path
    keys = {method for method, target in simple if not target.startswith("/_/")}
    assert {method.decode() for method in KEY_ROUTES} <= keys


def test_every_method_of_etcds_times_every_role(served: Served):
    wrong = []
    for path, body, allowed in V3:
        if f"/v3/{path}".encode() in TABLE:
            for role in ROLES:
                answer = served.call(path, body, role)
                refused = answer.refused or (
                    path == "election/observe" and not answer.body
                )  # it just ends, as etcd's does
                if refused is (role in allowed):
                    wrong.append((path, body, role, answer))
    assert wrong == []


def test_every_simple_route_times_every_role(served: Served):
    wrong = []
    for method, target, body, allowed in SIMPLE:
        for role in ROLES:
            answer = served.ask(method, target, body, served.tokens[role])
            if answer.refused is (role in allowed):
                wrong.append((method, target, role, answer))
    assert wrong == []


def test_the_client_sends_a_name_and_a_password(served: Served):
    with Client([served.url], user="writer:writer") as writer, Client([served.url], user="reader:reader") as reader:
        writer.put(b"p/client", b"1")
        writer.batch([(b"p/client2", b"2"), (b"p/client3", None)])
        assert reader.get(b"p/client") == b"1"
        assert [key for key, _ in reader.scan(prefix=b"p/client")] == [b"p/client", b"p/client2"]
        assert reader.health()
        with pytest.raises(NodeError, match="This user may not do that"):
            reader.put(b"p/client", b"2")
        with pytest.raises(NodeError, match="This user may not do that"):
            writer.get(b"p/client")
    with Client([served.url]) as nobody, pytest.raises(NodeError, match="Authentication is on"):
        nobody.get(b"p/client")
    with Client([served.url], user="reader:wrong") as wrong, pytest.raises(NodeError, match="another password"):
        wrong.get(b"p/client")
    with pytest.raises(ValueError, match="name:password"):
        Client([served.url], user="reader")


def test_the_verbs_send_it_too(
    served: Served, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
):
    def run(*words: str) -> int:
        return cli.main([*words, "--endpoints", served.url])

    assert run("put", "p/verb", "1", "--user", "writer:writer") == 0
    capfdbinary.readouterr()
    monkeypatch.setattr("getpass.getpass", lambda prompt: "reader" if "reader" in prompt else "")
    assert run("get", "p/verb", "--user", "reader") == 0
    assert capfdbinary.readouterr().out.strip() == b"1"
    assert run("get", "p/verb") == 2
    assert b"Authentication is on" in capfdbinary.readouterr().err
    assert run("snapshot", "save", str(tmp_path / "file"), "--user", "reader:reader") == 2
    assert b"may not do that" in capfdbinary.readouterr().err
    monkeypatch.setenv("METCD_USER", "root:root")
    assert run("snapshot", "save", str(tmp_path / "file")) == 0
    assert run("check", "--cluster") == 0


def test_what_is_refused_is_said_in_one_sentence_with_a_challenge(served: Served):
    answer = served.ask("GET", "/p/a")
    assert answer.status == 401
    assert json.loads(answer.body)["error"].startswith("Authentication is on: ")


def test_turning_it_off_is_roots_and_opens_everything(served: Served):
    path, body, allowed = LAST
    assert [role for role in ROLES if not served.call(path, body, role).refused] == sorted(allowed)
    assert served.ask("GET", "/p/a").status in (200, 404)
    assert served.call("kv/range", KEY).status == 200
    served.enable()

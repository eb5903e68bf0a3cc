"""A cluster of one or more nodes without Raft: every request is applied on all of them at once, checked as apply.py does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from server.v3 import rpc, wire
from server.v3.auth import Around, Auth
from server.v3.auth_entries import BRANCHES
from server.v3.auth_service import METHODS
from server.v3.messages import Message
from server.v3.method import Call, Caller, Read, Write
from server.v3.passwords import Passwords
from server.v3.status import Status

CHEAP = Passwords(cost=2)
REVISION = 1  # of the keys, which nothing here changes


class Proposed(NamedTuple):
    index: int
    username: str
    auth_revision: int


class Has:
    revision = REVISION


class Nodes:
    """`self.auths[n]` are the tables of node n; `log` has what went through Raft."""

    def __init__(self, count: int = 1) -> None:
        self.now = 1000.0
        self.log: list[bytes] = []
        self.leased: dict[int, list[bytes]] = {}
        self.late: set[int] = set()  # nodes that apply when a barrier is asked for
        self.applied = [0] * count
        self.before_entry: Callable[[], object] = lambda: None
        self.auths = []
        for node in range(count):
            around = Around(
                lambda: self.now,
                lambda node=node: self.applied[node],
                lambda node=node: self.catch_up(node),
                self.keys,
                self.keys,
            )
            self.auths.append(Auth(around, CHEAP))

    def keys(self, lease: int) -> list[bytes]:
        return self.leased.get(lease, [])

    def call(self, path: str, token: str | None = None, node: int = 0, **fields: Any) -> Any:
        """The answer of an Auth service's method as the gateway asks for it. Raises Status."""
        (method,) = (each for each in METHODS if each.path == path)
        return self.run(node, method, Caller(token), method.request(**fields))

    def run(self, node: int, method: Any, caller: Caller, request: Any) -> Any:
        here = Here(self, node)
        if isinstance(method, Call):
            return method.run(here, caller, request)
        caller = here.auth.identify(caller)
        if isinstance(method, Read):
            return method.evaluate(here, Has(), caller, request)
        assert isinstance(method, Write)
        header = rpc.RequestHeader(username=caller.username, auth_revision=caller.auth_revision)
        return here.request(rpc.InternalRaftRequest(header=header, **{method.field: request}))

    def request(self, node: int, request: rpc.InternalRaftRequest) -> Any:
        self.before_entry()
        self.log.append(wire.encode(request))
        answers = {
            each: self.catch_up(each) for each in range(len(self.auths)) if each == node or each not in self.late
        }
        answer = answers[node]
        if isinstance(answer, Status):
            raise answer
        return answer

    def catch_up(self, node: int) -> object:
        """Applies what the log has beyond what the node has applied; the answer to the last."""
        answer: object = None
        while self.applied[node] < len(self.log):
            request = wire.decode(rpc.InternalRaftRequest, self.log[self.applied[node]])
            self.applied[node] += 1
            answer = self._apply(node, self.applied[node], request)
        return answer

    def _apply(self, node: int, index: int, request: rpc.InternalRaftRequest) -> object:
        auth = self.auths[node]
        header = request.header or rpc.RequestHeader()
        proposed = Proposed(index, header.username, header.auth_revision)
        (field,) = (each for each in BRANCHES if getattr(request, each) is not None)
        auth.begin()
        try:
            auth.check_entry(field, proposed, getattr(request, field))
            return BRANCHES[field](Here(self, node), proposed, getattr(request, field), Has())
        except Status as error:
            auth.undo()
            return error


class Here:
    """What services see of one node."""

    def __init__(self, nodes: Nodes, node: int) -> None:
        self._nodes, self._node = nodes, node
        self.auth = nodes.auths[node]

    def header(self, revision: int) -> rpc.ResponseHeader:
        return rpc.ResponseHeader(cluster_id=1, member_id=self._node + 1, revision=revision, raft_term=1)

    def request(self, request: rpc.InternalRaftRequest) -> Any:
        return self._nodes.request(self._node, request)

    def ask(self, caller: Caller, field: str, message: Message) -> Any:
        who = rpc.RequestHeader(username=caller.username, auth_revision=caller.auth_revision)
        return self.request(rpc.InternalRaftRequest(header=who, **{field: message}))  # type: ignore[arg-type]

    def barrier(self) -> None:
        self._nodes.catch_up(self._node)


def ready(count: int = 1) -> tuple[Nodes, str]:
    """Nodes with authentication on, and root's token: root/p has the role root; alice/q reads [a, b), writes [w, x), both [b, c);
    dora/d has no role."""
    nodes = Nodes(count)
    nodes.call("auth/user/add", name="root", password="p")
    nodes.call("auth/role/add", name="root")
    nodes.call("auth/user/grant", user="root", role="root")
    nodes.call("auth/user/add", name="alice", password="q")
    nodes.call("auth/user/add", name="dora", password="d")
    nodes.call("auth/role/add", name="reader")
    nodes.call("auth/user/grant", user="alice", role="reader")
    for kind, key, end in ((0, b"a", b"b"), (1, b"w", b"x"), (2, b"b", b"c")):
        nodes.call("auth/role/grant", name="reader", perm=rpc.Permission(kind, key, end))
    nodes.call("auth/enable")
    return nodes, login(nodes, "root", "p")


def login(nodes: Nodes, name: str, password: str, node: int = 0) -> str:
    token = nodes.call("auth/authenticate", node=node, name=name, password=password).token
    assert isinstance(token, str)
    return token

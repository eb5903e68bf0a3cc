"""Every simple route times every kind of client, while authentication is on; tests/gateway has the same over HTTP for all routes."""

from __future__ import annotations

import base64

import pytest

from server import routes
from server.access import admit, require_writes, settle
from server.answers import Answer, Call, Right, Route
from server.errors import NoLeader
from server.loop_calls import BegunRead
from server.request import BadRequest
from server.routes import NUMBERED, ROUTES, perform
from server.v3.tokens import TOKEN_S
from tests.server.v3.auth_nodes import Nodes, login, ready

ROUTES_BY_NAME: dict[str, tuple[Route, bytes]] = {
    **{
        f"{method.decode()} {path.decode()}": (route, b"")
        for path, each in ROUTES.items()
        for method, route in each.items()
    },
    **{
        f"{method.decode()} {path.decode()}…": (route, b"2")
        for path, each in NUMBERED.items()
        for method, route in each.items()
    },
    "GET a key": (routes.GET, b"k"),
    "PUT a key": (routes.PUT, b"k"),
    "DELETE a key": (routes.DELETE, b"k"),
    "GET a": (routes.GET, b"a"),
    "GET w": (routes.GET, b"w"),
    "PUT a": (routes.PUT, b"a"),
    "PUT w": (routes.PUT, b"w"),
    "DELETE w": (routes.DELETE, b"w"),
}
OPEN = {"GET /_/health", "GET /_/metrics", "GET /_/status"}
OF_ANY_USER = {"GET /_/members", "POST /_/sessions", "POST /_/batch"}  # of a batch, its keys are looked at later
OF_ALICE = {"GET a", "PUT w", "DELETE w"}


def _clients(nodes: Nodes, root: str) -> dict[str, bytes | None]:
    """Authorization of each kind of client."""
    expired = login(nodes, "alice", "q").encode()
    nodes.now += TOKEN_S
    return {
        "nobody": None,
        "empty": b"",
        "nonsense": b"nonsense",
        "bad token": b"bad.1",
        "expired token": expired,
        "root's old token": root.encode(),
        "wrong password": _basic("root", "x"),
        "no colon": b"Basic " + base64.b64encode(b"root"),
        "not base64": b"Basic a",
        "unknown user": _basic("eve", "p"),
        "dora": _basic("dora", "d"),
        "alice": _basic("alice", "q"),
        "alice's token": login(nodes, "alice", "q").encode(),
        "root": _basic("root", "p"),
        "root's token": login(nodes, "root", "p").encode(),
    }


def _basic(name: str, password: str) -> bytes:
    return b"basic " + base64.b64encode(f"{name}:{password}".encode())


def _status(nodes: Nodes, route: Route, key: bytes, authorization: bytes | None, **options: object) -> int:
    try:
        admit(nodes.auths[0], Call(route, key, options), authorization)
    except BadRequest as error:
        assert error.status != 401 or error.headers.startswith(b"WWW-Authenticate: Basic ")
        return error.status
    return 200


def _expected(client: str, name: str) -> int:
    if name in OPEN or client in ("root", "root's token"):
        return 200
    if client not in ("dora", "alice", "alice's token"):
        return 401
    return 200 if name in OF_ANY_USER or (name in OF_ALICE and client != "dora") else 403


def test_every_route_has_its_right_for_every_client():
    """A route without a right is root's, so a new one is closed until somebody opens it here, too."""
    nodes, root = ready()
    clients = _clients(nodes, root)
    found = {
        (client, name): _status(nodes, route, key, authorization)
        for client, authorization in clients.items()
        for name, (route, key) in ROUTES_BY_NAME.items()
        if name != "GET /_/scan"
    }
    assert found == {(client, name): _expected(client, name) for client, name in found}


def test_what_says_nothing_is_roots():
    assert Route(lambda *_: None).right is Right.ROOT


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 403),
        ({"start": b"a"}, 403),
        ({"start": b"a", "stop": b"c"}, 200),
        ({"start": b"a", "stop": b"c\0"}, 403),
        ({"start": b"\0", "stop": b"c"}, 403),
        ({"stop": b"c"}, 403),
        ({"prefix": b"a"}, 200),
        ({"prefix": b"b"}, 200),
        ({"prefix": b"w"}, 403),
        ({"prefix": b""}, 403),
        ({"prefix": b"b", "start": b"a", "stop": b"z"}, 200),
        ({"prefix": b"b", "reverse": True, "limit": 1}, 200),
        ({"prefix": b"\xff"}, 403),
        ({"start": b"a", "prefix": b"\xff\xff"}, 403),
    ],
)
def test_a_scan_needs_all_of_its_range(options, status):
    """alice reads [a, b) and [b, c)."""
    nodes, _ = ready()
    route = ROUTES[b"/_/scan"][b"GET"]
    assert _status(nodes, route, b"", _basic("alice", "q"), **options) == status
    assert _status(nodes, route, b"", _basic("root", "p"), **options) == 200


def test_a_batch_needs_each_of_its_keys():
    nodes, _ = ready()
    auth = nodes.auths[0]
    call = admit(auth, Call(ROUTES[b"/_/batch"][b"POST"], b"", {}), _basic("alice", "q"))
    require_writes(auth, call.options["who"], [b"w1", b"b1"])
    with pytest.raises(BadRequest) as refused:
        require_writes(auth, call.options["who"], [b"w1", b"a1"])
    assert refused.value.status == 403


def test_what_was_read_while_roles_changed_isnt_answered():
    nodes, root = ready()
    auth = nodes.auths[0]
    call = admit(auth, Call(routes.GET, b"a", {}), _basic("alice", "q"))
    write = admit(auth, Call(routes.PUT, b"w", {}), _basic("alice", "q"))
    settle(auth, call)
    nodes.call("auth/role/revoke", root, role="reader", key=b"a", range_end=b"b")
    with pytest.raises(BadRequest) as refused:
        settle(auth, call)
    assert refused.value.status == 503
    settle(auth, write)  # it is done


class Served:
    """What `perform` asks of who serves: the users."""

    def __init__(self, nodes: Nodes) -> None:
        self.node = self.etcd = self
        self.auth = nodes.auths[0]


def _performed(nodes: Nodes, call: Call, right: Right) -> int:
    """The status of a call whose body comes now; it is carried out if that is 204."""
    done: list[bytes] = []

    def run(server, key, options, body):
        done.append(body)
        return Answer(204)

    answer = perform(Served(nodes), call._replace(route=Route(run, right=right)), b"late")
    assert bool(done) is (answer.status == 204)
    return answer.status


def test_a_body_that_comes_late_is_no_way_around_what_has_changed_since_its_head():
    """The head was admitted; its client has up to BODY_S for the body, and loses its right meanwhile."""
    nodes, root = ready()
    auth = nodes.auths[0]

    def admitted(name: str, right: Right) -> Call:
        return admit(
            auth, Call(Route(lambda *_: None, right=right), b"w", {}), _basic(name, {"alice": "q"}.get(name, "p"))
        )

    nodes.call("auth/user/add", root, name="carl", password="p")
    nodes.call("auth/user/grant", root, user="carl", role="root")
    calls = [
        admitted(name, right) for name, right in (("carl", Right.ROOT), ("alice", Right.KNOWN), ("root", Right.ROOT))
    ]
    assert [_performed(nodes, call, call.route.right) for call in calls] == [204, 204, 204]
    nodes.call("auth/user/revoke", root, name="carl", role="root")
    assert [_performed(nodes, call, call.route.right) for call in calls] == [403, 503, 204]


def test_what_was_admitted_while_authentication_was_off_is_asked_again_when_it_is_on():
    """A stranger could send a head before it is turned on, and the body after that."""
    nodes, root = ready()
    expected = {Right.OPEN: 204, Right.KNOWN: 503, Right.READ: 503, Right.WRITE: 503, Right.ROOT: 503}
    call = Call(Route(lambda *_: None), b"k", {})
    assert {right: _performed(nodes, call, right) for right in Right} == expected
    nodes.call("auth/disable", root)
    assert {_performed(nodes, call, right) for right in Right} == {204}


def test_a_get_that_has_begun_while_authentication_was_off_is_given_to_a_thread_which_asks_who_that_is():
    nodes, _ = ready()
    read = BegunRead(lambda answer: None, Served(nodes), b"k")
    assert read.answer(7) is None
    assert read.answer(NoLeader("none")).status == 503


def test_a_live_page_that_was_opened_before_is_told_nothing_more():
    """By who is root no more, and by a stranger who opened it before authentication was turned on."""
    nodes, root = ready()
    served = Served(nodes)
    served.feed = served
    served.join = lambda: iter([b"1", b"2", b"3"])
    for name in ("carl", "dave"):
        nodes.call("auth/user/add", root, name=name, password="p")
        nodes.call("auth/user/grant", root, user=name, role="root")
    feed = ROUTES[b"/_/feed"][b"GET"]
    who = admit(nodes.auths[0], Call(feed, b"", {}), _basic("carl", "p")).options["who"]
    nodes.call("auth/user/revoke", root, name="dave", role="root")  # which is nothing to carl
    frames = feed.run(served, b"", {"who": who}, b"").body
    assert next(frames) == b"1"
    nodes.call("auth/user/revoke", root, name="carl", role="root")
    assert list(frames) == []
    nodes.call("auth/disable", root)
    frames = feed.run(served, b"", {}, b"").body
    assert next(frames) == b"1"
    nodes.call("auth/enable")
    assert list(frames) == []


def test_no_sentence_tells_a_secret():
    nodes, _ = ready()
    for authorization in (_basic("alice", "hunter2"), b"hunter2.1", None):
        with pytest.raises(BadRequest) as refused:
            admit(nodes.auths[0], Call(routes.GET, b"k", {}), authorization)
        assert "hunter2" not in refused.value.sentence

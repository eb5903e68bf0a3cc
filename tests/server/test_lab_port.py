"""Who may call the lab: held to its own table of calls, so that a new one can't be forgotten."""

import http.client
import json
import logging
import re
import socket

import pytest

from server import lab_port as lab_port_module
from server.cluster import LocalCluster
from server.lab import Lab
from server.lab_port import CALL_BYTES_MAX, CALLS_MAX, LabPort, NotLoopback
from server.lab_routes import ROUTES
from tests.server.fake_node import FakeNode, serving
from tests.server.local_nodes import PATIENCE_S, eventually, free_ports

ORIGINS = ["http://127.0.0.1:3379", "http://127.0.0.1:13379"]
BODIES = {"cut": True, "one_way": False, "sync_delay_s": 0.1}
NUMBERS = {b"A": b"1", b"B": b"2", b"N": b"3"}


def path_of(route):
    return b"/".join(NUMBERS.get(word, word) for word in route.path.split(b"/")).decode()


def body_of(route):
    return json.dumps({name: BODIES[name] for name in route.fields}).encode() if route.fields else b""


ALL = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method.decode()} {route.path.decode()}")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A lab whose nodes were never started: what is asked here is who may call."""
    lab = Lab(LocalCluster(["memory"] * 3, str(tmp_path_factory.mktemp("lab")), free_ports(1)[0]), port=1)
    port = LabPort(lab, ("127.0.0.1", 0), ORIGINS)
    port.start()
    yield port
    port.stop()


@pytest.fixture
def done(monkeypatch):
    """The calls that got through, which do nothing here."""
    done = []
    monkeypatch.setattr(
        lab_port_module, "perform", lambda lab, found, body: done.append((found.route, found.nodes, body)) or b"{}"
    )
    return done


def ask(address, method, path, fields=(), body=b""):
    """Status, header fields and body of one request; fields: pairs, Host among them if it isn't the address."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
    try:
        names = [name.lower() for name, _ in fields]
        connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
        for name, text in fields:
            connection.putheader(name, text)
        if body or method == "POST":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def bearer(port):
    return ("Authorization", f"Bearer {port.token}")


def sentence(body):
    return json.loads(body)["error"]


@ALL
def test_with_the_token_each_call_gets_through(port, done, route):
    for fields in ([bearer(port)], [bearer(port), ("Origin", ORIGINS[1])], [bearer(port), ("Host", "localhost:3378")]):
        status, headers, _ = ask(port.address, route.method.decode(), path_of(route), fields, body_of(route))
        assert status == 200 and headers["Cache-Control"] == "no-store"
    numbers = [int(NUMBERS[word]) for word in route.path.split(b"/") if word in NUMBERS]
    assert done == [(route, numbers, body_of(route))] * 3


WITHOUT = [
    [],
    [("Authorization", "")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", "Bearer wrong")],
    [("Authorization", "{token}")],
    [("Authorization", "Basic {token}")],
    [("Authorization", "bearer {token}")],
    [("Authorization", "Bearer {token}x")],
    [("Authorization", "Bearer x{token}")],
    [("Authorization", "Bearer {token} {token}")],
    [("X-Authorization", "Bearer {token}")],
    [("Cookie", "token={token}")],
    [("Origin", ORIGINS[0])],
    [("Origin", ORIGINS[0]), ("Authorization", "Bearer wrong")],
]


@ALL
def test_none_works_without_its_token(port, done, route):
    for fields in WITHOUT if route is ROUTES[0] else WITHOUT[:5]:
        given = [(name, text.replace("{token}", port.token)) for name, text in fields]
        status, headers, body = ask(port.address, route.method.decode(), path_of(route), given, body_of(route))
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer"), fields
        assert "token" in sentence(body) and port.token not in sentence(body)
    assert not done


@ALL
@pytest.mark.parametrize("first", ["Bearer {token}", "Bearer wrong"])
def test_two_tokens_are_refused(port, done, route, first):
    """Also when one of them, or each, is right."""
    given = [("Authorization", text.replace("{token}", port.token)) for text in (first, "Bearer {token}")]
    status, _, body = ask(port.address, route.method.decode(), path_of(route), given, body_of(route))
    assert status == 400 and not done
    assert port.token not in sentence(body)


@ALL
def test_a_token_in_the_address_is_none(port, done, route):
    status, _, _ = ask(port.address, route.method.decode(), f"{path_of(route)}?token={port.token}", (), body_of(route))
    assert status == 401 and not done


FOREIGN = [
    [("Origin", "http://evil.example")],
    [("Origin", "null")],
    [("Origin", "")],
    [("Origin", "https://127.0.0.1:3379")],
    [("Origin", "http://127.0.0.1:3378")],
    [("Origin", "http://127.0.0.1:33790")],
    [("Origin", "http://127.0.0.1")],
    [("Origin", "http://localhost:3379")],
    [("Origin", "http://127.0.0.1:3379.evil.example")],
    [("Sec-Fetch-Site", "cross-site")],
    [("Host", "evil.example")],
    [("Host", "evil.example:3378"), ("Origin", "http://evil.example:3378")],
    [("Host", "localhost.evil.example"), ("Origin", ORIGINS[0])],
    [("Host", "127.0.0.1.evil.example:3378")],
]


@ALL
def test_none_works_from_another_origin_or_under_a_name_that_leads_here(port, done, route):
    """With the right token, too: another program on this machine may have seen it, and its page must not use it."""
    for fields in FOREIGN if route is ROUTES[0] else FOREIGN[::5]:
        for given in (fields, [*fields, bearer(port)]):
            status, headers, _ = ask(port.address, route.method.decode(), path_of(route), given, body_of(route))
            assert status == 403, fields
            assert "Access-Control-Allow-Origin" not in headers
    assert not done


def test_a_request_without_a_host_is_refused(port, done):
    with socket.create_connection(port.address, timeout=PATIENCE_S) as connection:
        connection.sendall(f"GET /_/lab HTTP/1.0\r\nAuthorization: Bearer {port.token}\r\n\r\n".encode())
        assert b" 403 " in connection.recv(1000)
    assert not done


@ALL
def test_a_browser_is_told_that_the_nodes_pages_may_and_no_others(port, done, route):
    asks = [
        ("Access-Control-Request-Method", route.method.decode()),
        ("Access-Control-Request-Headers", "authorization"),
    ]
    status, headers, body = ask(port.address, "OPTIONS", path_of(route), [("Origin", ORIGINS[0]), *asks])
    assert (status, body) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == ORIGINS[0] and headers["Vary"] == "Origin"
    assert route.method.decode() in headers["Access-Control-Allow-Methods"]
    assert "authorization" in headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in headers
    status, headers, _ = ask(port.address, "OPTIONS", path_of(route), [("Origin", "http://evil.example"), *asks])
    assert (status, headers["Access-Control-Allow-Origin"]) == (403, None)
    status, headers, _ = ask(port.address, route.method.decode(), path_of(route), [("Origin", ORIGINS[0])])
    assert (status, headers["Access-Control-Allow-Origin"]) == (401, ORIGINS[0]), (
        "so that the page can show the sentence"
    )
    assert not done


@ALL
def test_a_node_has_none_of_them(front, route):
    """Its port has no lab, with --lab neither: what it is told comes by its standard input."""
    path = path_of(route)
    for target in (path, path.replace("/_/", "/%5F/"), path.replace("/lab", "//lab")):
        status, _, body = ask(front.address, route.method.decode(), target, (), body_of(route))
        assert status == 404 and "reserved" in sentence(body)


def test_a_nodes_page_may_call_the_lab_of_its_cluster_and_no_other_does(front):
    policy = ask(front.address, "GET", "/_/page")[1]["Content-Security-Policy"]
    assert ":3378" not in policy
    with serving(FakeNode(), lab="http://127.0.0.1:3378") as other:
        policy = ask(other.address, "GET", "/_/page")[1]["Content-Security-Policy"]
        assert re.search(r"connect-src [^;]*http://127\.0\.0\.1:3378[ ;]", policy)
        nodes = json.loads(ask(other.address, "GET", "/_/page/nodes.json")[2])
        assert nodes["pages"] == [f"http://127.0.0.1:{other.address[1]}"], "the lab is no node"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "localhost", "example.org", ""])
def test_it_listens_on_this_machine_only(port, host):
    with pytest.raises(NotLoopback, match="this machine only"):
        LabPort(port.lab, (host, 0), ORIGINS)


def test_each_start_draws_another_token(port):
    other = LabPort(port.lab, ("127.0.0.1", 0), ORIGINS)
    other.stop()
    assert other.token != port.token and len(port.token) >= 43, "256 bits"


def test_what_is_asked_is_bounded_and_refused_with_a_sentence(port, done):
    for method, path, body, expected in [
        ("GET", "/", b"", 404),
        ("GET", "/_/lab/", b"", 404),
        ("GET", "/_/lab?x=1", b"", 404),
        ("POST", "/_/lab/nodes/1/explode", b"", 404),
        ("POST", "/_/lab/nodes/-1/pause", b"", 404),
        ("POST", "/_/lab/nodes/1234567890/pause", b"", 404),
        ("POST", "/_/lab/nodes/%31/pause", b"", 404),
        ("POST", "/_/lab", b"", 405),
        ("GET", "/_/lab/nodes/1/kill", b"", 405),
        ("HEAD", "/_/lab/nodes/1/kill", b"", 405),
        ("OPTIONS", "/_/lab", b"", 405),
        ("POST", "/_/lab/nodes/1/disk", b"x" * (CALL_BYTES_MAX + 1), 413),
    ]:
        status, headers, said = ask(port.address, method, path, [bearer(port)], body)
        assert status == expected, (method, path)
        if method != "HEAD":
            assert sentence(said)
        if status == 405:
            assert headers["Allow"] in ("GET", "POST")
    assert not done


BEGUN = (
    b"POST /_/lab/nodes/1/disk HTTP/1.1\r\nHost: [::1]\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n{"
)


@pytest.mark.parametrize("sent", [b"", b"GET /_/la", BEGUN])
def test_a_request_has_to_be_whole_in_time(monkeypatch, port, done, sent):
    monkeypatch.setattr(lab_port_module, "ASK_S", 0.05)
    with socket.create_connection(port.address, timeout=PATIENCE_S) as connection:
        connection.sendall(sent.replace(b"{token}", port.token.encode()))
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert answer == b"" if not sent else answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408"))
    assert not done


def test_connections_are_bounded_and_their_places_come_back(port, done):
    idle = [socket.create_connection(port.address, timeout=PATIENCE_S) for _ in range(CALLS_MAX)]
    with socket.create_connection(port.address, timeout=PATIENCE_S) as refused:
        assert refused.recv(1) == b""
    idle[0].setblocking(False)
    with pytest.raises(BlockingIOError):  # it is still open, so that wasn't the end of everybody's time
        idle[0].recv(1)
    for connection in idle:
        connection.close()

    def answered():
        try:
            return ask(port.address, "GET", "/_/lab", [bearer(port)])[0] == 200
        except OSError:
            return False

    eventually("there is a place again", answered)


def test_a_failure_of_ours_is_a_sentence_and_its_token_is_in_no_line(monkeypatch, port, lines, caplog):
    def fails(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(lab_port_module, "perform", fails)
    with caplog.at_level(logging.DEBUG):
        status, _, body = ask(port.address, "GET", "/_/lab", [bearer(port)])
    assert status == 500 and "log" in sentence(body)
    assert lines and port.token not in caplog.text + "".join(lines)

"""The routes of the live page: its files, its policy, and who may watch."""

from __future__ import annotations

import json

import pytest

from engines.kvstore import KVStore
from server.http import FrontEnd
from server.routes_page import page_files, page_url
from tests.server.fake_node import FakeNode, Wire

OTHER = "http://127.0.0.1:13379"


@pytest.fixture(scope="module")
def front(one):
    front = FrontEnd(one, ("127.0.0.1", 0), pages=[OTHER])
    front.start()
    yield front
    front.stop()


@pytest.fixture
def wire(front):
    with Wire(front.address) as wire:
        yield wire


def _own(front: FrontEnd) -> str:
    return f"http://127.0.0.1:{front.address[1]}"


@pytest.mark.parametrize("path", ["/_/page", "/_/page/", "/_/page/index.html", "/"])
def test_the_page_comes_with_its_policy(wire, front, path):
    status, headers, body = wire.ask("GET", path, None, "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
    assert status == 200 and body.lower().startswith(b"<!doctype html>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {_own(front)} {OTHER}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def test_head_of_the_page_has_no_body(wire):
    status, headers, body = wire.ask("HEAD", "/", None, "Accept: text/html")
    assert (status, body) == (200, b"") and int(headers["content-length"]) > 0


@pytest.mark.parametrize("accept", [(), ("Accept: */*",), ("Accept: application/json",)])
def test_without_a_browser_the_root_is_a_path_without_a_key(wire, accept):
    status, _, body = wire.ask("GET", "/", None, *accept)
    assert status == 400 and b"a key has at least one byte" in body


def test_a_browser_s_other_methods_on_the_root_are_as_before(wire):
    assert wire.ask("GET", "/key", None, "Accept: text/html")[0] == 404
    assert wire.ask("PUT", "/", b"x", "Accept: text/html")[0] == 405


def test_each_file_is_served_and_known_again(wire):
    for name, file in page_files().items():
        status, headers, body = wire.ask("GET", f"/_/page/{name.decode()}")
        assert (status, body) == (200, file.body)
        assert headers["cache-control"] == "no-cache"
        known = f'If-None-Match: W/{headers["etag"]}, "other"'
        status, headers, body = wire.ask("HEAD", f"/_/page/{name.decode()}", None, known)
        assert (status, body) == (304, b"") and "content-length" not in headers


@pytest.mark.parametrize(
    "path",
    ["absent.js", "..%2fhttp.py", "%2e%2e/node.py", "../http.py", "sub/main.js", "main.js%00", "__init__.py", "."],
)
def test_what_is_no_file_of_the_page_is_not_there(wire, path):
    status, headers, _ = wire.ask("GET", f"/_/page/{path}")
    assert (status, headers["x-metcd-error"]) == (404, "NoSuchPath")


@pytest.mark.parametrize("path", ["/", "/_/page"])
def test_who_asks_at_localhost_is_sent_to_the_address_that_the_nodes_know(front, path):
    port = front.address[1]
    with Wire(front.address) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nHost: LocalHost:{port}\r\nAccept: text/html\r\n\r\n".encode())
        status, headers, _ = wire.answer()
        assert (status, headers["location"]) == (307, f"http://127.0.0.1:{port}/_/page")
        wire.send(f"GET /_/page/main.js HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        assert wire.answer()[0] == 200


def test_a_node_that_listens_everywhere_names_no_page_of_its_own(one):
    front = FrontEnd(one, ("0.0.0.0", 0), pages=[OTHER])
    assert front.feed.pages == [OTHER]
    front.stop()
    alone = FrontEnd(one, ("0.0.0.0", 0))
    alone.start()
    with Wire(("127.0.0.1", alone.address[1])) as wire:
        wire.send(b"GET /_/page HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.answer()[0] == 200
    alone.stop()


def test_the_nodes_are_listed(wire, front):
    assert json.loads(wire.ask("GET", "/_/page/nodes.json")[2]) == {"pages": [_own(front), OTHER], "missing": []}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ('[["btree", 11, "Pages"]]', [["btree", 11, "Pages"]]),
        ('[["btree", "11", "Pages"], 3, ["lsm"]]', []),
        ("no JSON", []),
        ('{"btree": 11}', []),
    ],
)
def test_what_a_learner_has_not_built_is_told_to_the_page(wire, monkeypatch, told, shown):
    """METCD_MISSING, which `metcd learn serve` sets; anything else says nothing."""
    monkeypatch.setenv("METCD_MISSING", told)
    assert json.loads(wire.ask("GET", "/_/page/nodes.json")[2])["missing"] == shown


@pytest.mark.parametrize(
    ("origin", "answered"),
    [
        (None, True),  # curl, and a page's own GET
        ("own", True),
        (OTHER, True),
        ("http://127.0.0.1:13380", False),
        ("http://localhost:13379", False),
        ("https://127.0.0.1:13379", False),
        ("http://evil.example", False),
        ("null", False),
        (OTHER + "/", False),
    ],
)
@pytest.mark.parametrize("path", ["/_/feed", "/_/describe", "/_/explain?key=a", "/_/bytes"])
def test_a_node_answers_the_pages_that_it_was_told_of(front, path, origin, answered):
    origin = _own(front) if origin == "own" else origin
    with Wire(front.address) as wire:
        fields = [f"Host: 127.0.0.1:{front.address[1]}", *([f"Origin: {origin}"] if origin else [])]
        wire.send("\r\n".join([f"HEAD {path} HTTP/1.1", *fields, "", ""]).encode())
        status, headers, _ = wire.answer(head_only=True)
    assert status in ((200, 404) if answered else (403,))
    assert headers.get("access-control-allow-origin") == (origin if answered else None)
    assert headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/key"), ("PUT", "/key"), ("DELETE", "/key"), ("GET", "/_/scan"), ("GET", "/_/status"),
        ("GET", "/_/members"), ("GET", "/_/snapshot"), ("POST", "/_/leader/1"), ("GET", "/_/page"),
        ("OPTIONS", "/_/feed"), ("OPTIONS", "/key"), ("GET", "/_/feedback"),
    ],
)  # fmt: skip
def test_nothing_else_is_answered_to_another_node_s_page(wire, method, path):
    status, headers, _ = wire.ask(method, path, b"" if method == "PUT" else None, f"Origin: {OTHER}")
    assert status == (405 if path == "/_/feed" else 403)
    assert ("access-control-allow-origin" in headers) == (path == "/_/feed")  # for the page to read why not


def test_a_name_that_somebody_made_for_this_machine_is_refused(front):
    with Wire(front.address) as wire:
        wire.send(f"GET /_/feed HTTP/1.1\r\nHost: evil.example:80\r\nOrigin: {OTHER}\r\n\r\n".encode())
        assert wire.answer()[0] == 403


def test_explain_tells_what_a_get_touches(wire):
    assert wire.ask("PUT", "/a%20b", b"value")[0] == 204
    told = json.loads(wire.ask("GET", "/_/explain?key=a%20b")[2])
    assert (told["engine"], told["key"], told["sentence"]) == ("lsm", "a b", "")
    assert told["explain"]["found"] and told["explain"]["value_bytes"] == 5 and told["explain"]["steps"]
    assert not json.loads(wire.ask("GET", "/_/explain?key=absent")[2])["explain"]["found"]
    assert wire.ask("DELETE", "/a%20b")[0] == 204  # its row stays until a compaction
    assert not json.loads(wire.ask("GET", "/_/explain?key=a%20b")[2])["explain"]["found"]
    assert wire.ask("GET", "/_/explain")[0] == wire.ask("GET", "/_/explain?key=")[0] == 400


def test_explain_says_when_an_engine_has_nothing_to_tell(wire, one, monkeypatch):
    monkeypatch.setattr(type(one.machine.store), "explain", KVStore.explain)
    told = json.loads(wire.ask("GET", "/_/explain?key=absent")[2])
    assert told["sentence"] == "The engine lsm doesn't tell what a get touches."


def test_the_bytes_of_the_node_s_files(wire, front):
    """A list, and lines of one; server/page_bytes.py has what is refused, and its test."""
    status, headers, body = wire.ask("GET", "/_/bytes")
    files = dict(json.loads(body)["files"])
    log = next(name for name in files if name.startswith("wal/"))
    assert status == 200 and any(name.startswith("engine/") for name in files)
    status, headers, body = wire.ask("GET", f"/_/bytes?file={log}&at=0")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert headers["x-content-type-options"] == "nosniff" and body.decode().count("\n") >= 1
    found = body.decode().splitlines()[0][:8]
    assert wire.ask("GET", f"/_/bytes?file={log}&find={found}")[2] == body
    for query, sentence in (
        ("file=../identity", "A file is named as /_/bytes lists it"),
        ("file=identity", "A file is named as /_/bytes lists it"),
        ("file=engine/none", "There is no file engine/none"),
        (f"file={log}&at=-1", "must be the number of a line"),
        (f"file={log}&find=%ff", "must be UTF-8"),
        (f"file={log}&where=1", "takes: file, at, find"),
    ):
        status, _, body = wire.ask("GET", f"/_/bytes?{query}")
        assert status in (400, 404) and sentence in json.loads(body)["error"]


@pytest.mark.parametrize(
    "url", ["ftp://a:1", "http://a", "a:1", "http://a:1/x", "http://a;b:1", "http://a':1", "http://a,b:1"]
)
def test_what_is_no_node_s_url_is_refused(url):
    with pytest.raises(ValueError, match="http://host:port"):
        page_url(url)


def test_a_url_is_written_as_browsers_write_origins():
    assert page_url("http://LocalHost:3379/") == "http://localhost:3379"
    assert page_url("http://[::1]:3379") == "http://[::1]:3379"


def test_the_table_of_files_never_has_what_is_no_page():
    assert b"index.html" in page_files()
    assert not [
        name for name in page_files() if not name.endswith((b".html", b".css", b".js", b".svg", b".json", b".png"))
    ]


def test_a_front_end_before_no_real_node_serves_the_page():
    front = FrontEnd(FakeNode(), ("127.0.0.1", 0))
    front.start()
    with Wire(front.address) as wire:
        assert wire.ask("GET", "/_/page")[0] == 200
    front.stop()

"""The live page and what it asks for: its files, the feed, and what an engine tells of itself.

    GET     /                      of a browser (Accept has text/html)     the page; without that, as any path without a key
    GET     /_/page, /_/page/<file>                                        the page, and the files in server/page/
    GET     /_/page/nodes.json     {"pages": [this node's URL, those of --page-with], "missing": [what isn't built yet]}
    GET     /_/feed                                                        text/event-stream (server/feed.py); 503 if too many watch
    GET     /_/describe            {"applied", "until", "describe", "stats"}: the engine's whole description
    GET     /_/explain?key=        {"engine", "key", "explain", "sentence"}: what a get of the key touches now
    GET     /_/bytes               {"files": [[name, bytes], …], "left_out"}: the node's files (server/page_bytes.py)
    GET     /_/bytes?file=&at=&find=    lines of one, as `metcd dump` prints them

Invariants:

1. The table of files is read once, and holds what was in the directory then: no path from the network names a file.
2. The page loads nothing from anywhere but the nodes, and runs no script that isn't one of its files: POLICY says so to the
   browser. So its HTML has no inline script and no inline style, and names its files by whole paths (/_/page/main.js).
3. Pages of other origins are answered as before, not at all (server/connection.py), with one exception: SHARED paths
   answer the pages of the nodes that `--page-with` names, and say so in Access-Control-Allow-Origin. They only read, and
   what they read is the node's structure.

A browser keeps the files, and asks each time whether they are still the same (ETag, no-cache). The page of one node opens
a feed to each node by itself; so a node that is down takes nothing from what is seen of the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Any, NamedTuple

from server.access import is_root_s
from server.addresses import parse_url, url_of
from server.answers import JSON, Answer, Options, Route, Serving, error_answer
from server.feed_store import describe_store
from server.page_bytes import file_list, piece
from server.request import BadRequest, Request
from server.statemachine import USER

__all__ = ["PAGE", "PAGE_FILES", "PAGE_ROUTES", "may_watch", "not_built", "page_url", "share"]

EVENT_STREAM = b"Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
PLAIN_TEXT = b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
NOT_KEPT = b"Cache-Control: no-store\r\n"
FILE_BYTES_MAX = 1 << 20
MISSING_MAX = 8
SHARED = frozenset((b"/_/feed", b"/_/describe", b"/_/explain", b"/_/bytes"))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "png": "image/png",
}
_LOCALHOST = re.compile(rb"localhost(:[0-9]+)?", re.IGNORECASE)
_PLAIN_URL = re.compile(r"http://(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\]):[0-9]+")  # nothing that means something in a policy


class File(NamedTuple):
    """One file of the page."""

    body: bytes
    content_type: str
    tag: bytes


@cache
def page_files() -> dict[bytes, File]:
    """The page's files by name. Empty where they are not installed."""
    directory = files("server") / "page"
    found = {}
    for each in directory.iterdir() if directory.is_dir() else ():
        content_type = TYPES.get(each.name.rpartition(".")[2])
        if content_type is not None and each.is_file() and not each.name.startswith("."):
            body = each.read_bytes()
            assert len(body) <= FILE_BYTES_MAX
            found[each.name.encode()] = File(
                body, content_type, b'"%b"' % hashlib.sha256(body).hexdigest()[:16].encode()
            )
    return found


def answer_page(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """A file of the page. key: its name; "" is index.html. options: "host"; "known", what the browser has already.

    The nodes know each other's pages as http://127.0.0.1:port, and a browser takes localhost for another origin: so who
    asks for the page there is sent on. (A fragment goes with it.)
    """
    name = key or b"index.html"
    host = options.get("host") or b""
    if (
        name == b"index.html"
        and _LOCALHOST.fullmatch(host)
        and any(page.startswith("http://127.") for page in server.feed.pages)
    ):
        there = b"127.0.0.1%b" % host[len("localhost") :]
        return Answer(307, b"", b"Location: http://%b/_/page\r\n%b" % (there, NOT_KEPT))
    file = page_files().get(name)
    if name == b"nodes.json":
        told = {"pages": server.feed.pages, "missing": not_built(os.environ.get("METCD_MISSING", ""))}
        return Answer(200, json.dumps(told).encode() + b"\n", JSON + NOT_KEPT)
    if file is None:
        return error_answer(404, "The page has no such file.", b"X-Metcd-Error: NoSuchPath\r\n")
    kept = b"ETag: %b\r\nCache-Control: no-cache\r\n" % file.tag
    if file.tag in [tag.strip().removeprefix(b"W/") for tag in (options.get("known") or b"").split(b",")]:
        return Answer(304, b"", kept)
    policy = POLICY.format(" ".join(["'self'", *server.feed.pages, *([server.lab] if server.lab else [])]))
    headers = (
        f"Content-Type: {file.content_type}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        f"Content-Security-Policy: {policy}\r\n"
    )
    return Answer(200, file.body, headers.encode() + kept)


def not_built(text: str) -> list[list[Any]]:
    """What `metcd learn serve` says that its learner hasn't built: [[engine, chapter, title], …]; [] for anything else."""
    try:
        told = json.loads(text or "[]")
    except ValueError:
        return []
    form = (str, int, str)
    entries = told[:MISSING_MAX] if isinstance(told, list) else []
    return [each for each in entries if isinstance(each, list) and tuple(map(type, each)) == form]


def page_url(text: str) -> str:
    """A node's URL as --page-with has it, in the one way in which a browser names that origin. Raises ValueError."""
    url = url_of(*parse_url(text)).lower()
    if _PLAIN_URL.fullmatch(url) is None:
        raise ValueError(f"a node's URL is http://host:port, and this is {text!r}")
    return url


def share(request: Request, pages: list[str], answer: Answer) -> Answer:
    """The same answer, for a page of one of these origins to read, if the path is one of SHARED."""
    path = request.target.partition(b"?")[0]
    if path not in SHARED:
        return answer
    headers = b"Vary: Origin\r\n"
    origin = request.fields.origin
    if origin is not None and may_watch(request, pages):
        headers += b"Access-Control-Allow-Origin: %b\r\n" % origin
    return answer._replace(headers=answer.headers + headers)


def may_watch(request: Request, pages: list[str]) -> bool:
    """Whether the request is one of SHARED, from a page of one of these origins."""
    origin = request.fields.origin
    known = origin is not None and origin.decode("latin-1") in pages
    return known and request.target.partition(b"?")[0] in SHARED


def answer_feed(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """The frames, for as long as the viewer takes them and is permitted to. Raises Overloaded."""
    auth, who = server.node.etcd.auth, options.get("who")
    frames = takewhile(lambda _: is_root_s(auth, who), server.feed.join())
    return Answer(200, frames, EVENT_STREAM, endless=True)


def answer_describe(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """The engine's whole description. O(what describe() costs)."""
    told = describe_store(server.node.watched, whole=True)
    return Answer(200, json.dumps(told).encode() + b"\n", JSON + NOT_KEPT)


def answer_explain(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """What a get of the key touches now, as the engine tells it (engines/telling.py).

    found and value_bytes are those of the user's value: the engine counts the row, which a deleted key has, too.
    """
    asked = options.get("key")
    if not asked:
        raise BadRequest(400, "The query must say which key: /_/explain?key=hello.")
    watched = server.node.watched
    explained, value = watched.store.explain(USER + asked), server.node.machine.lookup(asked)
    if explained["told"]:
        explained |= {"found": value is not None, "value_bytes": None if value is None else len(value)}
    told = {
        "engine": watched.engine,
        "key": asked.decode("utf-8", "backslashreplace"),
        "explain": explained,
        "sentence": "" if explained["told"] else f"The engine {watched.engine} doesn't tell what a get touches.",
    }
    return Answer(200, json.dumps(told).encode() + b"\n", JSON + NOT_KEPT)


def answer_bytes(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """The list of the node's files; or lines of the one that is named, from "at" on, or from the one that begins with "find"."""
    watched = server.node.watched
    name = options.get("file")
    if name is None:
        return Answer(200, json.dumps(file_list(watched.data_dir)).encode() + b"\n", JSON + NOT_KEPT)
    lines = piece(watched.data_dir, watched.engine, name, options.get("at", 0), options.get("find", ""))
    return Answer(200, lines.encode(), PLAIN_TEXT + NOT_KEPT)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None


def _line_number(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 9:
        raise ValueError("must be the number of a line, from 0")
    return int(raw)


PAGE = Route(answer_page)
PAGE_FILES = {b"GET": PAGE}
PAGE_ROUTES = {
    b"/_/page": PAGE_FILES,
    b"/_/feed": {b"GET": Route(answer_feed)},
    b"/_/describe": {b"GET": Route(answer_describe)},
    b"/_/explain": {b"GET": Route(answer_explain, {b"key": bytes})},
    b"/_/bytes": {b"GET": Route(answer_bytes, {b"file": _text, b"at": _line_number, b"find": _text})},
}

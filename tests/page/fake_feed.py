"""Nodes that aren't there: a server of the page's files and of frames that a test makes.

What a real cluster would need an hour to become (seven busy nodes with a log of millions) is a frame here. Each node is an http.server on a port of its own, with the headers of the real routes; its feed sends a new
frame of `make(node_id, n)` each `interval_s`.

    python -m tests.page.fake_feed            three nodes with small states, until Ctrl-C; prints the page's address
    python -m tests.page.fake_feed --big      with big ones
"""

from __future__ import annotations

import argparse
import json
import mimetypes
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from tests.page import frames
from tests.server.local_nodes import eventually

Frame = dict[str, Any]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class FakeNodes:
    """Nodes 1 to n on free ports. A context manager; `url` is node 1's.

    make: (node's id, number of the frame, URLs of all) -> frame. paused: ids whose feeds say nothing, and stay open.
    store: what was PUT, by path. free: while it is not set, PUTs wait. handler: what answers, None for Handler.
    missing: what a learner hasn't built, as `metcd learn serve` tells it.
    """

    handler: type[Handler] | None = None

    def __init__(self, make: Callable[[int, int, list[str]], Frame], nodes: int = 3, interval_s: float = 0.1) -> None:
        self.make, self.interval_s = make, interval_s
        self.stopping = threading.Event()
        self.free = threading.Event()  # PUTs pass
        self.free.set()
        self.paused: set[int] = set()
        self.store: dict[str, bytes] = {}
        self.missing: list[list[Any]] = []
        self.viewers: list[tuple[int, int]] = []  # (node, connection)
        self.writing = 0
        self.writing_most = 0
        self.guard = threading.Lock()
        self.lives = dict.fromkeys(range(1, nodes + 1), 0)
        self.servers: dict[int, ThreadingHTTPServer] = {}
        self.ports = dict.fromkeys(range(1, nodes + 1), 0)
        for node_id in self.ports:
            self.begin(node_id)
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports.values()]
        self.url = self.urls[0]

    def begin(self, node_id: int) -> None:
        """Starts a node, on the port that it had."""
        server = ThreadingHTTPServer(
            ("127.0.0.1", self.ports[node_id]),
            type("Handler", (self.handler or Handler,), {"nodes": self, "id": node_id}),
        )
        server.daemon_threads = True
        self.ports[node_id] = server.server_address[1]
        self.servers[node_id] = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def end(self, node_id: int) -> None:
        """Ends a node: its feeds break, its port is closed."""
        self.lives[node_id] += 1
        server = self.servers.pop(node_id)
        server.shutdown()
        server.server_close()

    def wait_for_viewers(self, number: int) -> None:
        """Returns when so many feeds are open."""
        eventually(f"{number} feeds are open", lambda: len(self.viewers) == number)

    def __enter__(self) -> FakeNodes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.free.set()
        for node_id in list(self.servers):
            self.end(node_id)


class Handler(BaseHTTPRequestHandler):
    """One connection to a node. Keep-alive, because a browser has six connections for a host, and no more."""

    protocol_version = "HTTP/1.1"
    nodes: FakeNodes
    id: int

    def setup(self) -> None:
        super().setup()
        self.life = self.nodes.lives[self.id]

    def parse_request(self) -> bool:
        """A connection that was kept alive ends with its node."""
        if self.nodes.lives[self.id] != self.life:
            self.close_connection = True
            return False
        return super().parse_request()

    def answer(self, status: int, body: bytes = b"", kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", self.nodes.url)
        if kind == "text/html":
            self.send_header("Content-Security-Policy", POLICY.format(" ".join(["'self'", *self.nodes.urls])))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/_/feed":
            self.feed()
        elif path == "/_/page/nodes.json":
            told = {"pages": [], "missing": self.nodes.missing}
            self.answer(200, json.dumps(told).encode(), "application/json")
        elif path in ("/", "/_/page") or path.startswith("/_/page/"):
            name = path.removeprefix("/_/page").strip("/") or "index.html"
            file = files("server") / "page" / name
            kind = mimetypes.guess_type(name)[0] or "text/plain"
            self.answer(200, file.read_bytes(), kind) if file.is_file() else self.answer(404)
        elif path == "/_/bytes":
            self.answer(200, b'{"files": [], "left_out": 0}', "application/json")
        else:
            value = self.nodes.store.get(path)
            self.answer(404) if value is None else self.answer(200, value)

    def do_PUT(self) -> None:
        nodes = self.nodes
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with nodes.guard:
            nodes.writing += 1
            nodes.writing_most = max(nodes.writing_most, nodes.writing)
        nodes.free.wait()
        with nodes.guard:
            nodes.writing -= 1
        nodes.store[self.path] = body
        self.answer(204)

    def do_DELETE(self) -> None:
        self.nodes.store.pop(self.path, None)
        self.answer(204)

    def feed(self) -> None:
        nodes = self.nodes
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Access-Control-Allow-Origin", nodes.url)
        self.end_headers()
        viewer = (self.id, id(self))
        nodes.viewers.append(viewer)
        n = 0
        try:
            while not nodes.stopping.is_set() and nodes.lives[self.id] == self.life:
                if self.id in nodes.paused:
                    self.wfile.write(b": paused\n\n")
                else:
                    frame = json.dumps(nodes.make(self.id, n, nodes.urls))
                    self.wfile.write(f"event: frame\ndata: {frame}\n\n".encode())
                    n += 1
                nodes.stopping.wait(nodes.interval_s)
        except OSError:
            pass
        nodes.viewers.remove(viewer)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the page, with nodes that aren't there")
    parser.add_argument("--big", action="store_true", help="seven busy nodes with a log of millions")
    big = parser.parse_args().big
    with FakeNodes(frames.big, nodes=7) if big else FakeNodes(frames.small) as fake:
        print(f"{fake.url}/_/page", flush=True)
        threading.Event().wait()

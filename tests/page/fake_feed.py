"""Nodes that aren't there: a server of the page's files and of frames that a test makes.

What a real cluster would need an hour to become (a thousand tables, ten thousand pages, a log of a million entries) is
a frame here. Each node is an http.server on a port of its own, with the headers of the real routes; its feed sends a new
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

Frame = dict[str, Any]


class FakeNodes:
    """Nodes 1 to n on free ports. A context manager; `url` is node 1's.

    make: (node's id, number of the frame, URLs of all) -> frame. written: what was PUT, as (path, body).
    """

    def __init__(self, make: Callable[[int, int, list[str]], Frame], nodes: int = 3, interval_s: float = 0.1) -> None:
        self.make, self.interval_s = make, interval_s
        self.stopping = threading.Event()
        self.store: dict[str, bytes] = {}
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(at + 1)) for at in range(nodes)]
        self.urls = [f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers]
        self.url = self.urls[0]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def _handler(self, node_id: int) -> type[BaseHTTPRequestHandler]:
        nodes = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: bytes = b"", kind: str = "application/octet-stream") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Access-Control-Allow-Origin", nodes.url)
                if kind.startswith("text/html"):
                    connect = " ".join(["'self'", *nodes.urls])
                    self.send_header(
                        "Content-Security-Policy",
                        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "
                        f"{connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                    )
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == "/_/feed":
                    return self.feed()
                if path in ("/", "/_/page"):
                    path = "/_/page/index.html"
                if path.startswith("/_/page/"):
                    file = files("server") / "page" / path.removeprefix("/_/page/")
                    if not file.is_file():
                        return self.answer(404)
                    return self.answer(200, file.read_bytes(), mimetypes.guess_type(path)[0] or "text/plain")
                value = nodes.store.get(path)
                return self.answer(404) if value is None else self.answer(200, value)

            def do_PUT(self) -> None:
                nodes.store[self.path] = self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.answer(204)

            def do_DELETE(self) -> None:
                nodes.store.pop(self.path, None)
                self.answer(204)

            def feed(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Access-Control-Allow-Origin", nodes.url)
                self.end_headers()
                n = 0
                while not nodes.stopping.is_set():
                    frame = json.dumps(nodes.make(node_id, n, nodes.urls))
                    try:
                        self.wfile.write(f"event: frame\ndata: {frame}\n\n".encode())
                    except OSError:
                        return
                    n += 1
                    nodes.stopping.wait(nodes.interval_s)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def stop(self, node_id: int) -> None:
        """The node's port is closed; feeds that are open end with the next frame."""
        self.servers[node_id - 1].shutdown()
        self.servers[node_id - 1].server_close()

    def __enter__(self) -> FakeNodes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the page, with nodes that aren't there")
    parser.add_argument("--big", action="store_true", help="a thousand tables, ten thousand pages, many segments")
    with FakeNodes(frames.big if parser.parse_args().big else frames.small) as fake:
        print(f"{fake.url}/_/page", flush=True)
        threading.Event().wait()

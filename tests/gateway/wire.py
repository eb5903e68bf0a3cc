"""HTTP by hand, so that a transcript sees status lines, headers and chunks as they are on the wire.

A request is sent as the recorder of the transcripts sent it; an answer is read piece by piece: its head, the chunks of its
body as they come, its trailers.
"""

from __future__ import annotations

import json
import socket
from typing import Any

__all__ = ["Answer", "NothingComes", "send"]

PATIENCE_S = 30.0  # for what should come


class NothingComes(Exception):
    """Nothing was sent within the time."""


def send(port: int, request: dict[str, Any], expand: Any, seconds: float = PATIENCE_S) -> socket.socket:
    """Connects and sends one request of a transcript, its placeholders written out by `expand`. The caller closes."""
    if "body_text" in request:
        body = expand(request["body_text"]).encode()
    elif "body" in request:
        body = expand(json.dumps(request["body"])).encode()
    else:
        body = b""
    chunked = "request_body" in request
    headers = {"Host": f"127.0.0.1:{port}"}
    headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
    if "body" in request or "body_text" in request:
        headers["Content-Type"] = "application/json"
    headers |= {name: expand(value) for name, value in request.get("headers", {}).items()}
    head = f"{request.get('method', 'POST')} {request['path']} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value) + "\r\n"
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sock = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    try:
        sock.sendall(head.encode("latin-1") + body)
    except OSError:  # the answer may be there already
        pass
    except BaseException:
        sock.close()
        raise
    return sock


class Answer:
    """One answer, read as it comes. Every call raises NothingComes if what it waits for doesn't come in `seconds`."""

    def __init__(self, sock: socket.socket, method: str = "POST") -> None:
        self._socket = sock
        self._method = method
        self._buffer = b""
        self.status = 0
        self.reason = ""
        self.interim = False
        self.headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.ended = False

    def _more(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            raise NothingComes from None
        if not data:
            raise ConnectionError("the connection was closed in the middle of an answer")
        self._buffer += data

    def _line(self, seconds: float) -> str:
        while b"\r\n" not in self._buffer:
            self._more(seconds)
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("latin-1")

    def _fields(self, seconds: float) -> list[tuple[str, str]]:
        fields = []
        while (line := self._line(seconds)) != "":
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return fields

    @property
    def rest(self) -> bytes:
        """What came after what has been read."""
        return self._buffer

    def comes(self, seconds: float) -> bool:
        """Whether anything comes within that time."""
        if not self._buffer:
            try:
                self._more(seconds)
            except NothingComes:
                return False
        return True

    def head(self, seconds: float = PATIENCE_S) -> None:
        """Reads the head; 100 Continue is noted and passed over."""
        while self.status in (0, 100):
            words = self._line(seconds).split(" ", 2)
            self.status, self.reason = int(words[1]), words[2] if len(words) > 2 else ""
            self.headers = self._fields(seconds)
            self.interim = self.interim or self.status == 100
        if self._method == "HEAD" or self.status in (204, 304):
            self.ended = True

    def header(self, name: str) -> str | None:
        """The first header of that name, in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def chunk(self, seconds: float = PATIENCE_S) -> bytes:
        """The next chunk of a chunked body; b"" at its end, when the trailers are there, too."""
        while b"\r\n" not in self._buffer:
            self._more(seconds)
        line, _, rest = self._buffer.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        while len(rest) < size + 2:
            self._more(seconds)
            rest = self._buffer.partition(b"\r\n")[2]
        if size == 0:
            self._buffer = rest
            while b"\r\n" not in self._buffer:
                self._more(seconds)
            self.trailers = self._fields(seconds)
            self.ended = True
            return b""
        self._buffer = rest[size + 2 :]
        return rest[:size]

    def body(self, seconds: float = PATIENCE_S) -> bytes:
        """The whole body."""
        if self.ended:
            return b""
        if self.header("transfer-encoding") == "chunked":
            return b"".join(iter(lambda: self.chunk(seconds), b""))
        length = self.header("content-length")
        if length is None:
            raise ConnectionError("an answer without a length")
        while len(self._buffer) < int(length):
            self._more(seconds)
        body, self._buffer = self._buffer[: int(length)], self._buffer[int(length) :]
        return body

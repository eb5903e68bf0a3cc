"""Plays a transcript: the same requests in the same order, and every answer compared with what etcd answered.

What is compared of an answer: the status and its reason; all headers but Date; the body with its order of fields, its blanks
and the newline at its end, with placeholders bound; trailers; of a stream the messages in their order, in which chunks they come,
where nothing comes, and the end. Of requests `before`, the status; of those `after` and `meanwhile`, status and body.

Waits of the recording are made shorter, or are conditions:

    nothing_for_seconds, not_even_a_head_for_seconds, none_within_seconds     QUIET_S, or less if less was recorded
    sleep_seconds                 it passes for leases at once; the next request is sent again until it is answered as
                                  recorded, for so long and GRACE_S more
    kill, then_wait_seconds       until the node that is left knows that nobody leads
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

from tests.gateway.nodes import Nodes, System
from tests.gateway.placeholders import Pairs, Placeholders
from tests.gateway.transcripts import load
from tests.gateway.wire import Answer, NothingComes, send

__all__ = ["Difference", "play"]

QUIET_S = 0.4
GRACE_S = 5.0
FOR_BROWSERS = {  # in every answer of every kind, unless a transcript says "(for browsers)"
    "Access-Control-Allow-Headers": "accept, content-type, authorization",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Origin": "*",
}


class Difference(Exception):
    """The first difference of an answer from what was recorded."""


def play(name: str, system: System, quiet_s: float = QUIET_S) -> None:
    """Plays one transcript on nodes of its own. Raises Difference; OSError and TimeoutError where nodes don't answer."""
    transcript = load(name)
    with system(transcript.get("nodes", 1), transcript.get("flags", [])) as nodes:
        Player(nodes, transcript, quiet_s).play()


class Player:
    """One transcript on its way."""

    def __init__(self, nodes: Nodes, transcript: dict[str, Any], quiet_s: float) -> None:
        self._nodes = nodes
        self._transcript = transcript
        self._quiet_s = quiet_s
        known = {}
        for at, (port, peer_port) in enumerate(zip(nodes.ports, nodes.peer_ports), 1):
            suffix = "" if len(nodes.ports) == 1 else f"_{at}"
            known[f"<client_url{suffix}>"] = f"http://127.0.0.1:{port}"
            known[f"<peer_url{suffix}>"] = f"http://127.0.0.1:{peer_port}"
        self._places = Placeholders(known)
        at = transcript.get("at", "first")
        self._at = 0 if at == "first" else nodes.leader()
        if at == "follower":
            self._at = (self._at + 1) % len(nodes.ports)
        self._port = nodes.ports[self._at]

    def play(self) -> None:
        """Plays it. Raises Difference."""
        transcript, patience_s = self._transcript, 0.0
        for step in transcript.get("before", []):
            if "sleep_seconds" in step:
                self._nodes.pass_time(step["sleep_seconds"])
                patience_s = step["sleep_seconds"] + GRACE_S
            elif "kill" in step:
                others = [at for at in range(len(self._nodes.ports)) if at != self._at]
                self._nodes.kill(others[: step["kill"]], self._at)
            else:
                answer = step.get("answer")
                expected = {"status": step.get("status", 200)} | ({} if answer is None else {"body": answer})
                self._exchange("before", step, expected, brief=True)
        request, response = transcript["request"], transcript["response"]
        if "stream" in response:
            self._stream(request, response)
        else:
            self._patiently("request", request, response, patience_s, brief=False)
        patience_s = 0.0
        for step in transcript.get("after", []):
            if "sleep_seconds" in step:
                self._nodes.pass_time(step["sleep_seconds"])
                patience_s = step["sleep_seconds"] + GRACE_S
            else:
                self._patiently("after", step["request"], step["response"], patience_s, brief=True)
                patience_s = 0.0

    def _patiently(self, what: str, request: Any, expected: Any, patience_s: float, brief: bool) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._exchange(what, request, expected, brief)
                return
            except Difference:
                if time.monotonic() > deadline:
                    raise
            threading.Event().wait(0.02)

    def _exchange(self, what: str, request: dict[str, Any], expected: dict[str, Any], brief: bool) -> None:
        where = f"{what} {request.get('method', 'POST')} {request['path']}"
        with contextlib.closing(send(self._port, request, self._places.expand)) as sock:
            answer = Answer(sock, request.get("method", "POST"))
            if "none_within_seconds" in expected:
                self._nothing(answer, expected["none_within_seconds"], where)
                return
            try:
                answer.head()
                body = answer.body()
            except NothingComes:
                raise Difference(f"{where}: no answer") from None
        if not brief:
            self._compare_head(answer, expected, where)
            if _visible(answer.trailers) != expected.get("trailers", {}):
                raise Difference(f"{where}: trailers {answer.trailers}, and were {expected.get('trailers')}")
            if answer.interim != ("before_it" in expected):
                raise Difference(f"{where}: {'a' if answer.interim else 'no'} 100 Continue")
        elif answer.status != expected["status"]:
            raise Difference(f"{where}: {answer.status}, and was {expected['status']}: {body[:300]!r}")
        if what != "before" or "body" in expected:
            self._compare_body(body, expected, where)

    def _nothing(self, answer: Answer, recorded_s: float, where: str) -> None:
        if answer.comes(min(recorded_s, self._quiet_s)):
            with contextlib.suppress(NothingComes):
                answer.head(1)
            raise Difference(f"{where}: an answer ({answer.status}), and there was none for {recorded_s} s")

    def _compare_head(self, answer: Answer, expected: dict[str, Any], where: str) -> None:
        if (answer.status, answer.reason) != (expected["status"], expected["reason"]):
            told = ""
            if answer.header("content-length") is not None:
                with contextlib.suppress(NothingComes, OSError):
                    told = f": {answer.body(1)[:300]!r}"
            raise Difference(
                f"{where}: {answer.status} {answer.reason}, and was {expected['status']} {expected['reason']}{told}"
            )
        wanted = dict(expected["headers"])
        if wanted.pop("(for browsers)", None) is None:
            wanted |= FOR_BROWSERS
        found = _visible(answer.headers)
        if found != wanted:
            missing = {name: value for name, value in wanted.items() if found.get(name) != value}
            surplus = {name: value for name, value in found.items() if wanted.get(name) != value}
            raise Difference(f"{where}: headers {surplus}, and were {missing}")

    def _compare_body(self, data: bytes, expected: dict[str, Any], where: str) -> None:
        text = data.decode("utf-8", "backslashreplace")
        if "body" not in expected:
            fault = self._places.text_fault(expected.get("body_text", ""), text)
        else:
            fault = self._json_fault(text, expected["body"], expected.get("newline_at_end", False))
        if fault is not None:
            raise Difference(f"{where}: {fault}")

    def _json_fault(self, text: str, expected: Any, newline: bool) -> str | None:
        try:
            body = json.loads(text, object_pairs_hook=Pairs)
        except ValueError:
            return f"{text[:600]!r} is no JSON, and {_plain(expected)} was"
        if (fault := self._places.fault(expected, body)) is not None:
            return fault
        if text.endswith("\n") != newline:
            return f"{'a' if text.endswith(chr(10)) else 'no'} newline at its end"
        compact = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
        return None if text.rstrip("\n") == compact else f"it has blanks, or escapes: {text[:300]!r}"

    # ---- streams ----------------------------------------------------------------------------------------------------

    def _stream(self, request: dict[str, Any], response: dict[str, Any]) -> None:
        where = f"stream {request['path']}"
        with contextlib.closing(send(self._port, request, self._places.expand)) as sock:
            stream = _Stream(sock)
            for number, event in enumerate(response["stream"]):
                place = f"{where}, event {number}"
                if "not_even_a_head_for_seconds" in event:
                    self._nothing(stream.answer, event["not_even_a_head_for_seconds"], place)
                elif "meanwhile" in event:
                    self._exchange(f"{place}:", event["meanwhile"], event["answer"], brief=True)
                else:
                    self._head_of(stream, response, place)
                    self._event(stream, event, place)
            shapes = response.get("chunks", [])
            if len(shapes) == 1 and stream.shapes - set(shapes):
                raise Difference(f"{where}: chunks of {sorted(stream.shapes)}, and were {shapes}")

    def _head_of(self, stream: _Stream, response: dict[str, Any], place: str) -> None:
        if stream.answer.status == 0:
            try:
                stream.answer.head()
            except NothingComes:
                raise Difference(f"{place}: not even a head") from None
            self._compare_head(stream.answer, response, place)

    def _event(self, stream: _Stream, event: dict[str, Any], place: str) -> None:
        if "message" in event:
            try:
                text = stream.line(GRACE_S)
            except NothingComes:
                raise Difference(f"{place}: nothing, and was {_plain(event['message'])}") from None
            while text is not None and '"remaining_bytes":' in text:  # how many of these there are is a matter of sizes
                text = stream.line(GRACE_S)
            if text is None:
                raise Difference(f"{place}: the end, and was {_plain(event['message'])}")
            if (fault := self._json_fault(text, event["message"], "no_newline" not in event)) is not None:
                raise Difference(f"{place}: {fault}")
        elif "nothing_for_seconds" in event:
            with contextlib.suppress(NothingComes):
                text = stream.line(min(event["nothing_for_seconds"], self._quiet_s))
                raise Difference(f"{place}: {text!r}, and was nothing")
        elif event.get("end"):
            try:
                text = stream.line(GRACE_S)
            except NothingComes:
                raise Difference(f"{place}: nothing, and was the end") from None
            if text is not None:
                raise Difference(f"{place}: {text!r}, and was the end")
            if _visible(stream.answer.trailers) != event.get("trailers", {}):
                raise Difference(f"{place}: trailers {stream.answer.trailers}, and were {event.get('trailers')}")
        else:
            raise AssertionError(f"an event that the runner doesn't know: {event}")


class _Stream:
    """The lines of a chunked answer."""

    def __init__(self, sock: socket.socket) -> None:
        self.answer = Answer(sock)
        self.shapes: set[str] = set()  # how messages and newlines are spread over chunks
        self._pending = b""

    def line(self, seconds: float) -> str | None:
        """The next line with its newline, or what stands at the end without one; None at the end. Raises NothingComes."""
        while b"\n" not in self._pending:
            if self.answer.ended:
                rest, self._pending = self._pending, b""
                return rest.decode() or None
            chunk = self.answer.chunk(seconds)
            if chunk:
                whole = chunk.endswith(b"\n")
                self.shapes.add("newline" if chunk == b"\n" else "message and newline" if whole else "message")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return f"{line.decode()}\n"


def _visible(headers: list[tuple[str, str]]) -> dict[str, str]:
    out: dict[str, str] = {}
    for name, value in headers:
        if name.lower() != "date":
            value = "<n>" if name.lower() == "content-length" else value
            out[name] = value if name not in out else f"{out[name]}, {value}"
    return out


def _plain(value: Any) -> str:
    return json.dumps(_dicts(value))[:500]


def _dicts(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {name: _dicts(each) for name, each in value}
    return [_dicts(each) for each in value] if isinstance(value, list) else value

"""Keepalive streams (server/v3/lease_service.py), without a node: requests come when they like, answers one after the other.

What the methods do on real nodes is in test_lease_cluster.py, and in tests/gateway.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from server.v3 import status
from server.v3.lease_calls import GONE, Known
from server.v3.lease_service import KEEPALIVES_MAX, KeepAlive
from server.v3.method import Caller
from server.v3.rpc import LeaseKeepAliveRequest, ResponseHeader
from server.v3.status import Status


class Out:
    """What a client is sent."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def send(self, message: Any) -> None:
        self.lines.append((message.header.revision, message.ID, message.TTL))

    def fail(self, error: Any) -> None:
        self.lines.append((error.code, error.sentence))

    def end(self) -> None:
        self.lines.append("end")

    def job(self, function: Any) -> None:
        function()


class Etcd:
    """A node whose leader answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Any]] = []
        self.revision = 1
        self.enabled = self.waits_for_token = self.permitted = False
        self.auth_revision = 1
        calls = SimpleNamespace(renew=lambda lease, timeout_s, answered: self.asked.append((lease, answered)))
        self.leasing = SimpleNamespace(calls=calls)
        self.auth = self.streams = self
        self.calls: list[Any] = []
        self.node = SimpleNamespace(machine=self)

    def ready(self, caller: Caller) -> bool:
        return not self.waits_for_token

    def identify(self, caller: Caller) -> Caller:
        return caller._replace(username="one", auth_revision=self.auth_revision)

    identify_if_on = identify

    def reidentify(self, caller: Caller) -> Caller:
        return self.identify(caller)

    def header(self, revision: int) -> ResponseHeader:
        return ResponseHeader(revision=revision)

    def check_lease_write(self, caller: Caller, lease: int) -> None:
        assert caller.username == "one"
        if caller.auth_revision != self.auth_revision:
            raise Status(*status.AUTH_OLD_REVISION)
        if not self.permitted:
            raise Status(*status.PERMISSION_DENIED)

    def call(self, function: Any) -> bool:
        self.calls.append(function)
        return True

    def turn(self) -> None:
        """A turn of the streams' thread."""
        while self.calls:
            self.calls.pop(0)()

    def answer(self, outcome: Any) -> int:
        """The leader has answered, in the node's thread; and the streams' thread has its turn."""
        lease, answered = self.asked.pop(0)
        answered(outcome)
        self.turn()
        return int(lease)


def stream() -> tuple[Etcd, Out, KeepAlive]:
    etcd, out = Etcd(), Out()
    return etcd, out, KeepAlive(etcd, Caller(), out)


def request(lease: int) -> LeaseKeepAliveRequest:
    return LeaseKeepAliveRequest(ID=lease)


def test_requests_are_answered_one_after_the_other_and_then_the_stream_ends() -> None:
    etcd, out, keepalive = stream()
    for lease in (77, 78, 79):
        keepalive.received(request(lease))
    keepalive.ended()
    assert etcd.answer(Known(60, 60)) == 77
    etcd.revision = 5  # the header is of the moment before the lease was kept alive
    assert len(etcd.asked) == 1
    assert etcd.answer(Known(30, 30)) == 78
    assert etcd.answer(GONE) == 79
    assert out.lines == [(1, 77, 60), (1, 78, 30), (5, 79, 0), "end"]


def test_a_stream_goes_on_until_its_body_ends() -> None:
    etcd, out, keepalive = stream()
    keepalive.received(request(77))
    etcd.answer(Known(60, 60))
    keepalive.received(request(77))
    etcd.answer(Known(60, 60))
    assert out.lines == [(1, 77, 60)] * 2
    keepalive.ended()
    assert out.lines[-1] == "end"


def test_an_end_never_overtakes_an_answer_of_the_node() -> None:
    """The node's thread answers before the streams' thread finds that the body has ended."""
    etcd, out, keepalive = stream()
    keepalive.received(request(77))
    _, answered = etcd.asked.pop()
    answered(Known(60, 60))
    keepalive.ended()
    etcd.turn()
    assert out.lines == [(1, 77, 60), "end"]


def test_no_request_is_no_answer() -> None:
    _, out, keepalive = stream()
    keepalive.ended()
    assert out.lines == ["end"]


def test_a_failure_is_the_end() -> None:
    etcd, out, keepalive = stream()
    keepalive.received(request(77))
    keepalive.received(request(78))
    etcd.answer(Status(*status.NO_LEADER))
    keepalive.received(request(79))
    keepalive.ended()
    assert (out.lines, etcd.asked) == ([status.NO_LEADER], [])


def test_nobody_is_told_anything_who_has_gone() -> None:
    etcd, out, keepalive = stream()
    keepalive.received(request(77))
    keepalive.received(request(78))
    keepalive.closed()
    etcd.answer(Known(60, 60))
    assert (out.lines, etcd.asked) == ([], [])


def test_what_waits_is_limited() -> None:
    _, out, keepalive = stream()
    for _ in range(KEEPALIVES_MAX + 1):
        keepalive.received(request(77))
    assert out.lines == [status.TOO_MANY_REQUESTS]


def test_a_token_that_is_new_is_waited_for_by_a_worker() -> None:
    etcd, out, keepalive = stream()
    etcd.waits_for_token = True
    keepalive.received(request(77))
    etcd.waits_for_token = False
    etcd.turn()
    etcd.answer(Known(60, 60))
    assert out.lines == [(1, 77, 60)]


def test_a_stream_goes_on_when_users_change() -> None:
    etcd, out, keepalive = stream()
    etcd.enabled = etcd.permitted = True
    for etcd.auth_revision in (1, 2):
        keepalive.received(request(77))
        etcd.answer(Known(60, 60))
    assert out.lines == [(1, 77, 60)] * 2


def test_who_may_not_write_its_keys_keeps_no_lease_alive() -> None:
    etcd, out, keepalive = stream()
    etcd.enabled = True
    keepalive.received(request(77))
    assert (out.lines, etcd.asked) == ([status.PERMISSION_DENIED], [])

"""Requests that nobody in his senses sends, some of them; `make gateway` sends 100,000."""

from server.v3 import kv_service, unary
from tests.conftest import SEED
from tests.gateway.mutants import play


def test_no_request_is_answered_as_etcd_never_would():
    assert play(400, SEED, ["memory"]).faults == []


def test_a_method_that_fails_is_found(monkeypatch):
    """The run sees an answer that says so, and the line in the log."""

    def failing(*_: object) -> object:
        raise KeyError("planted")

    monkeypatch.setattr(kv_service.kv, "range_of", failing)
    faults = play(400, SEED, ["memory"]).faults
    assert any("failed to answer (KeyError)" in fault for fault in faults)
    assert any("planted" in fault or "a call failed" in fault for fault in faults)


def test_a_node_and_a_thread_that_die_are_found(monkeypatch):
    """However its thread ends."""

    def failing(*_: object) -> object:
        raise SystemExit("planted")

    monkeypatch.setattr(unary, "response_answer", failing)
    monkeypatch.setattr("server.loop_v3.response_answer", failing)
    assert any("has failed" in fault or "still serves" in fault for fault in play(100, SEED, ["memory"]).faults)

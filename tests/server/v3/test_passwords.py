"""Passwords: records, their bounds, and who has shown the right one."""

from __future__ import annotations

import threading

import pytest

from server.limits import PASSWORD_BYTES_MAX, PASSWORD_CHECKS_MAX
from server.v3 import passwords as module
from server.v3 import status
from server.v3.passwords import Known, Passwords, record_of, text_of
from server.v3.status import Status


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(cost=2)


def test_a_record_matches_its_password_only(passwords):
    record = passwords.record("geheim")
    assert passwords.match(record, "geheim")
    assert not passwords.match(record, "Geheim")
    assert not passwords.match(record, "")
    assert record != passwords.record("geheim"), "each has a salt of its own"
    assert b"geheim" not in record


def test_any_text_is_a_password(passwords):
    for password in ("", "p", "ä€😀", "\0", "\ud800", "x" * PASSWORD_BYTES_MAX):
        assert passwords.match(passwords.record(password), password)


def test_one_that_is_too_long_is_refused_and_matches_nothing(passwords):
    with pytest.raises(Status, match="at most 1,024 bytes"):
        passwords.record("x" * (PASSWORD_BYTES_MAX + 1))
    assert not passwords.match(passwords.record("x"), "x" * (PASSWORD_BYTES_MAX + 1))


def test_what_is_no_record_matches_nothing(passwords):
    record = bytearray(passwords.record(""))
    for broken in (b"", b"\1", bytes(52), bytes(record[:-1])):
        assert not passwords.match(broken, "")
    record[1] = 40  # a cost of a terabyte
    assert not passwords.match(bytes(record), "")


def test_nobody_takes_as_much_work_as_somebody(passwords, monkeypatch):
    hashed = []
    scrypt = module.hashlib.scrypt
    monkeypatch.setattr(
        module.hashlib, "scrypt", lambda *a, **options: hashed.append(options["n"]) or scrypt(*a, **options)
    )
    assert not passwords.match(None, "")
    assert not passwords.match(passwords.record("a"), "b")
    assert hashed == [4, 4, 4]


def test_so_many_are_hashed_at_a_time_and_the_next_one_is_told(passwords, monkeypatch):
    monkeypatch.setattr(module, "TURN_S", 0.01)
    at_work, go_on = threading.Semaphore(0), threading.Event()

    def slow(*args: object, **options: object) -> bytes:
        at_work.release()
        assert go_on.wait(30)
        return bytes(32)

    monkeypatch.setattr(module.hashlib, "scrypt", slow)
    threads = [threading.Thread(target=passwords.record, args=("p",)) for _ in range(PASSWORD_CHECKS_MAX)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert at_work.acquire(timeout=30)
        with pytest.raises(Status) as refused:
            passwords.record("p")
        assert refused.value.args == status.TOO_MANY_REQUESTS
    finally:
        go_on.set()
        for thread in threads:
            thread.join()


def test_a_record_goes_through_raft_as_text():
    assert record_of(text_of(b"\0\xff")) == b"\0\xff"
    assert record_of("not base64") == b""
    assert record_of("") == b""


def test_who_was_right_before_is_known_until_the_record_changes():
    known = Known()
    known.add("alice", "q", b"record")
    assert known.has("alice", "q", b"record")
    assert not known.has("alice", "p", b"record")
    assert not known.has("alicf", "q", b"record")
    assert not known.has("alice", "q", b"another")
    known.add("ab", "c", b"record")
    assert not known.has("a", "bc", b"record")
    assert not known.has("a", "b\0c", b"record")


def test_so_many_are_known(monkeypatch):
    monkeypatch.setattr(module, "KNOWN_MAX", 2)
    known = Known()
    for name in "abc":
        known.add(name, "p", b"record")
    assert [known.has(name, "p", b"record") for name in "abc"] == [False, True, True]

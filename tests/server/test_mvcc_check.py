"""`metcd check` finds keys and history that don't fit together, each file of the store being whole."""

from __future__ import annotations

import pytest
from hypothesis import given

from engines.memory import MemoryStore
from server.evaluation import Request
from server.mvcc_check import SENTENCES_MAX, check_rows
from server.mvcc_rows import Revision, State, history_key, state_row
from tests.server.mvcc_model import Model, Store, machine_on
from tests.server.test_mvcc import WHAT_HAPPENS, do


@given(WHAT_HAPPENS)
def test_whatever_is_applied_is_found_right(happened):
    store, model = Store(machine_on("memory")), Model()
    for what, content in happened:
        do(store, model, what, content)
    store.apply()
    assert check_rows(store.machine.store) == []


@pytest.fixture
def store():
    """Two keys: one was put twice, one deleted; revision 5."""
    grown = Store(machine_on("memory"))
    for operations in ([Request(b"")], [(b"a", b"1")], [(b"a", b"2")], [(b"b", b"1")], [(b"b", None)]):
        grown.add(operations)
    grown.apply()
    return grown.machine.store


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (3, "key b'a' was changed at revision 3.0, and the history has no such change"),
        (2, "the change 3.0 of key b'a' has replaced the version of 2.0, whose row is missing"),
        (5, "key b'b' was changed at revision 5.0, and the history has no such change"),
    ],
)
def test_a_change_that_is_missing_is_told(store: MemoryStore, main: int, said: str):
    assert check_rows(store) == []
    store.delete(history_key(Revision(main, 0)))
    assert said in check_rows(store)


def test_a_version_that_is_not_its_changes_is_told(store: MemoryStore):
    row = store.get(b"ka")
    store.put(b"ka", row[:-1] + b"x")
    assert check_rows(store) == ["key b'a' has another version than the change 3.0 of the history"]
    store.delete(b"ka")
    assert "the change 3.0 of key b'a' is there, and the key's newest version isn't" in check_rows(store)
    store.put(b"ka", row[:20])
    assert any("has 20 bytes, and needs 38" in sentence for sentence in check_rows(store))


def test_a_revision_that_is_too_low_is_told_and_sentences_end(store: MemoryStore):
    store.put(b"mrevision", state_row(State(2, 4)))
    found = check_rows(store)
    assert found[0] == "the current revision is 2, but 4 is compacted, and 0 walked over"
    assert any("is of the future" in sentence for sentence in found)
    for key in range(2 * SENTENCES_MAX):
        store.put(b"k%d" % key, store.get(b"ka"))
    assert len(check_rows(store)) == SENTENCES_MAX

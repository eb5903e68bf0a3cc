"""The running digest: same entries, same digest, however they came to be applied; and what it tells apart."""

import struct

import pytest
from crc32c import crc32c

from engines import CorruptionError
from engines.memory import MemoryStore
from raft.raftpb import ConfState, Entry
from server import digest as digest_module
from server.digest import DIGEST, POINTS_KEPT, Point
from server.statemachine import APPLIED, StateMachine, encode_proposal

THREE = ConfState(voters=(1, 2, 3))


def entry(index, value=b"v", term=1):
    return Entry(term, index, data=encode_proposal(7, index, [(b"k", value)]))


def digest_of(entries, size=1, passed=()):
    with MemoryStore() as store:
        machine = StateMachine(store, skip_entries=passed)
        for at in range(0, len(entries), size):
            machine.apply(entries[at : at + size], THREE)
        return store.get(DIGEST)


def test_golden_bytes():
    """The formula and the byte table of server/digest.py."""
    one, two = entry(1), Entry(2, 2)
    value = crc32c(one.data, crc32c(struct.pack("<QQB", 1, 1, 0)))
    value = crc32c(b"", crc32c(struct.pack("<QQB", 2, 2, 0), value))
    assert digest_of([one, two]) == struct.pack("<QQI", 0, 2, value)
    assert digest_of([one, two]).hex() == "0000000000000000020000000000000077c2094c"


def test_batches_restarts_and_snapshots_change_nothing():
    entries = [entry(index) for index in range(1, 40)]
    wanted = digest_of(entries)
    assert all(digest_of(entries, size) == wanted for size in (2, 7, 39))
    with MemoryStore() as store, MemoryStore() as other:
        StateMachine(store).apply(entries[:20], THREE)
        machine = StateMachine(store)
        machine.apply(entries[20:25])
        taken = machine.snapshot()
        follower = StateMachine(other)
        with taken.view:
            follower.recover_from_snapshot(taken.metadata, taken.pairs())
        follower.apply(entries[25:])
        assert other.get(DIGEST) == wanted


@pytest.mark.parametrize("difference", ["data", "term", "kind"])
def test_an_entry_that_differs_in_anything_makes_another_digest(difference):
    others = {"data": entry(2, b"w"), "term": entry(2, term=0), "kind": Entry(1, 2, 1, entry(2).data)}
    assert digest_of([entry(1), others[difference]]) != digest_of([entry(1), entry(2)])


def test_an_entry_that_one_node_passes_over_makes_another_digest():
    """It has the same bytes, and the same applied index; only one of them has had no effect."""
    poison = [entry(1), Entry(1, 2, data=b"nobody's")]
    assert digest_of(poison, passed={2}) != digest_of([entry(1), Entry(1, 2)])
    assert digest_of(poison, passed={2}) == digest_of(poison, size=2, passed={2, 9})


def test_a_store_of_an_earlier_version_is_comparable_after_the_next_beginning(monkeypatch):
    monkeypatch.setattr(digest_module, "BEGIN_ANEW", 16)
    entries = [entry(index) for index in range(1, 21)]
    with MemoryStore() as store:
        StateMachine(store).apply(entries[:9], THREE)
        store.delete(DIGEST)
        machine = StateMachine(store)
        assert machine.digest.now is None
        machine.apply(entries[9:12])
        assert machine.digest.now[0] == Point(9, 12), "it begins where the store is"
        machine.apply(entries[12:])
        assert store.get(DIGEST) == digest_of(entries, 3)
        assert machine.digest.now[0] == Point(16, 20)


def test_the_points_are_where_everybody_has_them_and_bounded(monkeypatch):
    monkeypatch.setattr(digest_module, "POINT_EVERY", 4)
    with MemoryStore() as store, MemoryStore() as other_store:
        machine, other = StateMachine(store), StateMachine(other_store)
        entries = [entry(index) for index in range(1, 1001)]
        for at in range(0, 1000, 10):
            machine.apply(entries[at : at + 10], THREE)
        other.apply(entries, THREE)
        assert len(machine.digest.points) <= 2 * POINTS_KEPT
        assert {point.at % 4 for point in machine.digest.points} == {0}
        assert list(machine.digest.points.items())[-8:] == list(other.digest.points.items())[-8:]


def test_a_digest_of_another_size_is_damage():
    with MemoryStore() as store:
        StateMachine(store).apply([entry(1)], THREE)
        store.put(DIGEST, b"short")
        with pytest.raises(CorruptionError, match="mdigest"):
            StateMachine(store)


def test_a_store_with_which_an_earlier_version_went_on_begins_anew():
    """Else the node would come back with a digest that lacks entries, be taken for one that has diverged, and stop."""
    entries = [entry(index) for index in range(1, 40)]
    with MemoryStore() as store:
        StateMachine(store).apply(entries[:20], THREE)
        stale = store.get(DIGEST)
        StateMachine(store).apply(entries[20:30])
        store.put(DIGEST, stale)  # what a version without digests leaves
        assert store.get(APPLIED).startswith(struct.pack("<Q", 30))
        machine = StateMachine(store)
        machine.apply(entries[30:])
        assert machine.digest.now is not None and machine.digest.now[0] == Point(30, 39)

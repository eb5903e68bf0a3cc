"""The table of leases (server/v3/leases.py): against a model, and in the engine."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engines.coding import DecodeError
from engines.kvstore import MAX_KEY_BYTES, WriteBatch
from engines.memory import MemoryStore
from server.limits import KEY_BYTES_MAX, LEASES_MAX
from server.v3 import status
from server.v3.leases import LEASE_TTL_MAX_S, Granted, Leases
from server.v3.status import Status


class Writes:
    """The writes of an entry: a map, which tells the table what it deletes, as server/mvcc.py does."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.keys: dict[bytes, int] = {}
        self.deleted: list[bytes] = []

    def put(self, key: bytes, lease: int) -> None:
        self.leases.moved(key, self.keys.get(key, 0), lease)
        self.keys[key] = lease

    def delete(self, key: bytes) -> None:
        if key in self.keys:
            self.deleted.append(key)
            self.leases.moved(key, self.keys.pop(key), 0)


def table(**options: int) -> tuple[Leases, MemoryStore]:
    leases, store = Leases(**options), MemoryStore()
    leases.read(store)
    return leases, store


def write(leases: Leases, store: MemoryStore) -> None:
    batch = WriteBatch()
    leases.put(batch, [], None)
    store.write(batch)
    leases.written()


def refused(sentence: tuple[int, str]) -> pytest.RaisesExc[Status]:  # type: ignore[name-defined]
    return pytest.raises(Status, check=lambda error: (error.code, error.sentence) == tuple(sentence))


def test_a_revoked_lease_takes_its_keys_along_in_their_order() -> None:
    leases, store = table()
    writes = Writes(leases)
    leases.grant(77, 60, 1)
    for key in (b"b", b"c", b"a"):
        writes.put(key, 77)
    writes.put(b"c", 0)  # taken off
    write(leases, store)
    writes.put(b"d", 77)  # not in the engine yet
    leases.revoke(77, writes)
    assert writes.deleted == [b"a", b"b", b"d"]
    assert writes.keys == {b"c": 0}
    write(leases, store)
    assert list(store.scan()) == []


def test_what_etcd_refuses() -> None:
    leases, _ = table()
    assert leases.grant(77, LEASE_TTL_MAX_S, 1) == LEASE_TTL_MAX_S
    with refused(status.LEASE_EXIST):
        leases.grant(77, 60, 2)
    with refused(status.LEASE_TTL_TOO_LARGE):
        leases.grant(78, LEASE_TTL_MAX_S + 1, 2)
    with refused(status.LEASE_NOT_FOUND):
        leases.grant(0, 60, 2)
    with refused(status.LEASE_NOT_FOUND):
        leases.revoke(78, Writes(leases))
    with refused(status.LEASE_NOT_FOUND):
        leases.require(78)
    assert leases.ids() == [77]


def test_there_is_a_limit_to_leases() -> None:
    assert LEASES_MAX > 100_000
    leases, _ = table(most=2)
    leases.grant(1, 60, 1)
    leases.grant(2, 60, 2)
    with refused(status.TOO_MANY_REQUESTS):
        leases.grant(3, 60, 3)
    leases.revoke(1, Writes(leases))
    leases.grant(3, 60, 4)


def test_an_expiry_counts_only_in_the_term_that_decided_it_and_for_the_grant_that_it_saw() -> None:
    """etcd's issue 15247: a leader that stood still revoked what the next one had told a client to be alive."""
    leases, _ = table()
    writes = Writes(leases)
    leases.grant(77, 60, 5)
    writes.put(b"a", 77)
    assert not leases.expire(77, 5, decided=3, term=4, writes=writes)
    assert not leases.expire(77, 4, decided=4, term=4, writes=writes)
    assert not leases.expire(78, 5, decided=4, term=4, writes=writes)
    assert leases.granted(77) == Granted(60, 5)
    assert leases.expire(77, 5, decided=4, term=4, writes=writes)
    assert leases.granted(77) is None
    assert writes.deleted == [b"a"]


def test_the_table_is_read_again_from_the_engine() -> None:
    """At the start, and after a snapshot: negative ids, and keys as long as a key may be, among them."""
    leases, store = table()
    writes = Writes(leases)
    long_keys = [bytes([at]) * KEY_BYTES_MAX for at in range(3)]
    leases.grant(-3, 60, 1)
    leases.grant(1 << 62, 2, 2)
    for key in (b"a", *long_keys):
        writes.put(key, -3)
    writes.put(long_keys[1], 1 << 62)
    write(leases, store)
    again = Leases()
    again.read(store)
    assert again.ids() == [-3, 1 << 62]
    assert again.granted(-3) == Granted(60, 1)
    assert again.keys(-3) == [long_keys[0], long_keys[2], b"a"]
    assert again.keys(1 << 62) == [long_keys[1]]


def test_the_rows_in_the_engine() -> None:
    """They are what nodes find after a restart, and what snapshots carry: another form would be another version."""
    leases, _ = table()
    writes = Writes(leases)
    lease = b"\0\0\0\0\0\0\0M"  # 77
    fits, long_key = b"f" * (MAX_KEY_BYTES - 11), b"g" * (MAX_KEY_BYTES - 10)
    leases.grant(77, 60, 258)
    for key in (b"a", fits, long_key):
        writes.put(key, 77)
    batch = WriteBatch()
    leases.put(batch, [], None)
    assert batch.operations == [
        (b"mlg" + lease, b"\x3c\0\0\0\0\0\0\0" + b"\x02\x01\0\0\0\0\0\0"),
        (b"mlk" + lease + b"a", b""),
        (b"mlk" + lease + fits, b""),
        (b"mlx" + lease + hashlib.sha256(long_key).digest(), long_key),
    ]

    leases.written()
    batch = WriteBatch()
    leases.put(batch, [], None)
    assert not batch.operations, "nothing is written twice"


def test_a_key_that_an_undone_entry_has_moved_hangs_where_the_entries_before_it_put_it() -> None:
    """Of the same batch: else it would outlive its lease."""
    leases, store = table()
    writes = Writes(leases)
    for lease in (1, 2):
        leases.grant(lease, 60, lease)
    writes.put(b"a", 1)
    leases.begin()
    for lease in (2, 1, 2, 0):
        writes.put(b"a", lease)
    leases.undo()
    write(leases, store)
    assert (leases.keys(1), leases.keys(2)) == ([b"a"], [])


@pytest.mark.parametrize(("key", "value"), [(b"mlg1234", bytes(16)), (b"mlg12345678", bytes(8))])
def test_what_is_no_lease_is_damage(key: bytes, value: bytes) -> None:
    store = MemoryStore()
    store.put(key, value)
    with pytest.raises(DecodeError, match="not a lease's"):
        Leases().read(store)


def test_who_keeps_the_deadlines_is_told_of_what_has_changed() -> None:
    leases, store = table()
    told: list[dict[int, Granted | None]] = []
    leases.on_change = told.append
    leases.grant(1, 60, 1)
    leases.grant(2, 60, 2)
    leases.revoke(2, Writes(leases))
    write(leases, store)
    write(leases, store)
    leases.begin()
    leases.revoke(1, Writes(leases))
    leases.undo()
    write(leases, store)
    assert told == [{1: Granted(60, 1)}]


IDS = st.integers(1, 4)
KEYS = (b"a", b"b", b"c", b"\xff" * KEY_BYTES_MAX)
WHICH = st.integers(0, len(KEYS) - 1)


class Model(RuleBasedStateMachine):
    """Leases as a dict and keys as a dict, in batches of any size, with entries that are taken back, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.leases, self.store = table()
        self.writes = Writes(self.leases)
        self.granted: dict[int, Granted] = {}
        self.index = 0

    @rule(lease=IDS, fails=st.booleans())
    def grant(self, lease: int, fails: bool) -> None:
        self.index += 1
        self.leases.begin()
        if lease in self.granted:
            with refused(status.LEASE_EXIST):
                self.leases.grant(lease, 60, self.index)
            return
        self.leases.grant(lease, 60, self.index)
        if fails:
            self.leases.undo()
        else:
            self.granted[lease] = Granted(60, self.index)

    @rule(moves=st.lists(st.tuples(WHICH, IDS | st.just(0)), max_size=5), fails=st.booleans())
    def puts(self, moves: list[tuple[int, int]], fails: bool) -> None:
        self.leases.begin()
        before = dict(self.writes.keys)
        for which, lease in moves:
            if lease == 0 or lease in self.granted:
                self.writes.put(KEYS[which], lease)
        if fails:
            self.leases.undo()
            self.writes.keys = before

    @rule(lease=IDS, fails=st.booleans())
    def revoke(self, lease: int, fails: bool) -> None:
        self.leases.begin()
        before, granted = dict(self.writes.keys), self.granted.pop(lease, None)
        if granted is None:
            with refused(status.LEASE_NOT_FOUND):
                self.leases.revoke(lease, self.writes)
            return
        self.writes.deleted = []
        self.leases.revoke(lease, self.writes)
        assert self.writes.deleted == sorted(key for key, its in before.items() if its == lease)
        if fails:
            self.leases.undo()
            self.writes.keys, self.granted[lease] = before, granted

    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        self.leases.begin()
        self.writes.delete(KEYS[which])

    @rule(restarts=st.booleans())
    def batch_ends(self, restarts: bool) -> None:
        write(self.leases, self.store)
        if restarts:
            self.leases = self.writes.leases = Leases()
            self.leases.read(self.store)
        attached = sum(1 for lease in self.writes.keys.values() if lease)
        assert len(list(self.store.scan())) == len(self.granted) + attached, "no row is left over"

    @invariant()
    def is_as_the_model(self) -> None:
        assert self.leases.ids() == sorted(self.granted)
        for lease in range(1, 5):
            assert self.leases.granted(lease) == self.granted.get(lease)
            assert self.leases.keys(lease) == sorted(key for key, its in self.writes.keys.items() if its == lease)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

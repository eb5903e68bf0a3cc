"""The state machine: what a proposal's bytes are, and what applying it does to an engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engines
from engines import CorruptionError, WriteBatch
from engines.coding import DecodeError
from engines.memory import MemoryStore
from engines.simenv import Policy, SimEnv
from raft.raftpb import ENTRY_CONF_CHANGE, ConfState, Entry
from server.errors import UndecodableEntry
from server.evaluation import Request
from server.principal import Principal
from server.sessions import MARK, OPENS, Serial
from server.statemachine import (
    MAX_KEY_BYTES,
    Applied,
    StateMachine,
    decode_proposal,
    encode_proposal,
    kind_of_proposal,
)

THREE = ConfState(voters=(1, 2, 3))
KEYS = st.binary(min_size=1, max_size=20)
OPERATIONS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=40)), max_size=8)


def entry(index: int, *operations: tuple[bytes, bytes | None], origin: int = 7) -> Entry:
    return Entry(1, index, data=encode_proposal(origin, index * 10, operations))


@pytest.fixture
def machine():
    with MemoryStore() as store:
        yield StateMachine(store)


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask"])
def test_what_was_applied_before_a_flush_outlives_a_power_cut(engine, rng):
    """The log is cut after it. A synced write is enough (engines/kvstore.py, promise 3), and an LSM tree makes no table."""
    env = SimEnv()
    store = engines.open("/node/engine", engine, env=env, sync=False)
    machine = StateMachine(store)
    for index in range(1, 200):
        machine.apply([entry(index, (b"%04d" % index, b"v" * 50))], THREE)
    fsyncs = store.stats().fsyncs
    machine.flush()
    assert store.stats().fsyncs - fsyncs <= 2  # the B+tree has pages and then its meta page
    if engine == "lsm":
        assert store.describe()["levels"][0]["files"] == []
    for policy in Policy:
        survived = env.crash(policy, rng)
        with engines.open("/node/engine", engine, env=survived, sync=False) as found:
            after = StateMachine(found)
            assert after.applied_index == 199
            assert [key for key, _ in after.scan()] == [b"%04d" % index for index in range(1, 200)]


def test_golden_bytes_of_a_proposal():
    """The byte table of server/statemachine.py."""
    assert encode_proposal(1, 2, [(b"a", b"xy"), (b"b", None)]).hex(" ") == (
        "01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 02 00 00 00 "
        "01 01 00 00 00 02 00 00 00 61 78 79 "
        "00 01 00 00 00 62"
    )


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), OPERATIONS)
def test_a_proposal_decodes_to_what_was_encoded(origin, sequence, operations):
    assert decode_proposal(encode_proposal(origin, sequence, operations)) == (origin, sequence, operations)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_decode_or_are_refused(data):
    try:
        proposal = decode_proposal(data)
    except DecodeError:
        return
    assert encode_proposal(*proposal) == data


@given(st.binary(max_size=40))
def test_a_request_is_alone_in_its_proposal(data):
    encoded = encode_proposal(1, 2, [Request(data)])
    assert decode_proposal(encoded).operations == [Request(data)]
    assert encoded[16:25] == b"\x01\0\0\0\x03" + len(data).to_bytes(4, "little")
    with pytest.raises(DecodeError, match="3 only alone"):
        decode_proposal(encode_proposal(1, 2, [Request(data), (b"a", b"1")]))
    with pytest.raises(DecodeError):
        decode_proposal(encoded[:-1])


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 2**64 - 1), st.booleans(), OPERATIONS, st.data())
def test_who_asks_stands_before_what_is_to_be_done(name, revision, in_session, operations, data):
    front = [Serial(17, 1)] if in_session else []
    proposed = [*front, Principal(name, revision), *operations]
    encoded = encode_proposal(1, 2, proposed)
    assert decode_proposal(encoded) == (1, 2, proposed)
    with pytest.raises(DecodeError):
        decode_proposal(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_who_asks_is_said_once_in_utf_8_and_before_all_else():
    asks = Principal("a", 9)
    assert encode_proposal(1, 2, [asks])[20:].hex(" ") == "04 09 00 00 00 00 00 00 00 01 00 00 00 61"
    for proposed in ([(b"a", b""), asks], [asks, asks], [asks, Request(b"")], [asks, Serial(17, 1)]):
        with pytest.raises(DecodeError, match="4 only before the others"):
            decode_proposal(encode_proposal(1, 2, proposed))
    with pytest.raises(DecodeError):
        decode_proposal(encode_proposal(1, 2, [asks])[:-1] + b"\xff")


@given(OPERATIONS.filter(bool), st.data())
def test_a_proposal_that_is_cut_or_extended_is_refused(operations, data):
    encoded = encode_proposal(1, 2, operations)
    with pytest.raises(DecodeError):
        decode_proposal(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(DecodeError):
        decode_proposal(encoded + b"\0")


@pytest.mark.parametrize(
    ("operations", "kind"),
    [
        ([(b"a", b"x")], "put"),
        ([(b"a", None)], "delete"),
        ([(b"a", b"x"), (b"b", None)], "batch"),
        ([], "batch"),
        ([Serial(17, 1), (b"a", b"x")], "put"),
        ([Serial(17, 2), (b"a", None)], "delete"),
        ([Serial(17, 3), (b"a", None), (b"b", None)], "batch"),
        ([OPENS], "session"),
        ([MARK], "mark"),
        ([Request(b"x")], "request"),
        ([Principal("alice", 7), (b"a", b"x")], "put"),
        ([Serial(17, 1), Principal("é", 7), (b"a", None)], "delete"),
        ([Serial(17, 1), Principal("", 0), (b"a", None), (b"b", None)], "batch"),
    ],
)
def test_a_proposal_has_a_kind_for_people(operations, kind):
    assert kind_of_proposal(encode_proposal(1, 2, operations)) == kind


@given(st.binary(max_size=80))
def test_arbitrary_bytes_have_a_kind(data):
    assert kind_of_proposal(data) in {"put", "delete", "batch", "session", "mark", "request", "unreadable"}


def test_apply_writes_pairs_and_index_in_one_batch(machine):
    """etcd 3.5.0 wrote them apart, and lost entries in a crash between the two."""
    batches = []
    write = machine.store.write
    machine.store.write = lambda batch, *, sync: (
        batches.append((list(batch.operations), sync)) or write(batch, sync=sync)
    )
    applied = machine.apply([entry(1, (b"a", b"1")), Entry(1, 2), entry(3, (b"a", None), (b"b", b"2"))], THREE)
    assert applied == [Applied(1, 7, 10), Applied(3, 7, 30)]
    [(operations, sync)] = batches
    assert sync is False
    assert [key for key, _ in operations] == [b"ka", b"ka", b"kb", b"mapplied", b"mconf_state", b"mdigest"]
    assert (machine.lookup(b"a"), machine.lookup(b"b"), machine.applied_index) == (None, b"2", 3)


def test_applied_index_and_members_are_read_back():
    with MemoryStore() as store:
        StateMachine(store).apply([Entry(3, 1), Entry(4, 2)], THREE)
        again = StateMachine(store)
        assert (again.applied_index, again.applied_term, again.conf_state) == (2, 4, THREE)


def test_an_entry_that_can_not_be_decoded_is_passed_over_if_the_operator_says_so():
    """The way out of a restart that ends at the same entry for ever; one that can be decoded is applied all the same."""
    with MemoryStore() as store:
        machine = StateMachine(store, skip_entries={1, 2, 3})
        unknown_type = Entry(1, 3, 9, b"of a later version")
        machine.apply([entry(1, (b"a", b"1")), Entry(1, 2, data=b"poison"), unknown_type], THREE)
        assert (machine.lookup(b"a"), machine.applied_index) == (b"1", 3)
        assert machine.conf_change(Entry(1, 3, ENTRY_CONF_CHANGE, b"?")).node_id == 0
        with pytest.raises(UndecodableEntry):
            machine.conf_change(Entry(1, 4, ENTRY_CONF_CHANGE, b"?"))
        with pytest.raises(UndecodableEntry, match="its type is 9"):
            machine.apply([Entry(1, 4, 9, b"of a later version")])


def test_an_entry_that_nobody_proposed_applies_nothing_of_its_batch(machine):
    """A poison entry must stop the node, and must not be skipped."""
    with pytest.raises(UndecodableEntry, match=r"entry 2 of term 1 is committed, and .* --skip-entry 2, which"):
        machine.apply([entry(1, (b"a", b"1")), Entry(1, 2, data=b"poison")], THREE)
    assert machine.applied_index == 0
    assert list(machine.store.scan()) == []


@pytest.mark.parametrize(
    "value", [b"", b"=", b"==", b"=x", b"bitcask_tombstone", b"bitcask_tombstone2\0\0\0\1", b"\xff", b"plain"]
)
def test_every_value_comes_back_and_none_looks_like_riaks_tombstone(machine, value):
    machine.apply([entry(1, (b"key", value))], THREE)
    assert machine.lookup(b"key") == value
    assert list(machine.scan()) == [(b"key", value)]
    assert not machine.store.get(b"kkey").startswith(b"bitcask_tombstone")


def test_the_longest_key_fits_behind_its_prefix(machine):
    key = b"x" * MAX_KEY_BYTES
    machine.apply([entry(1, (key, b"v"))], THREE)
    assert machine.lookup(key) == b"v"


def test_scan_shows_the_users_keys_only_within_every_kind_of_bound(machine):
    machine.apply([entry(1, *((bytes((byte,)), b"%d" % byte) for byte in (0, 1, 107, 109, 254, 255)))], THREE)
    keys = lambda **bounds: [key[0] for key, _ in machine.scan(**bounds)]  # noqa: E731
    assert keys() == [0, 1, 107, 109, 254, 255]
    assert keys(reverse=True) == [255, 254, 109, 107, 1, 0]
    assert keys(start=b"\x01", stop=b"\xfe") == [1, 107, 109]
    assert keys(prefix=b"\xff") == [255]
    assert keys(start=b"\xff\xff") == []


def test_a_snapshot_loaded_on_another_engine_gives_the_same_pairs(machine):
    machine.apply([entry(1, (b"a", b"1"), (b"b", b"2"))], THREE)
    snapshot = machine.snapshot()
    machine.apply([entry(2, (b"a", b"changed"))])
    with snapshot.view, MemoryStore() as other_store:
        other = StateMachine(other_store)
        other.apply([entry(1, (b"gone", b"x"))], THREE)
        other.recover_from_snapshot(snapshot.metadata, snapshot.pairs())
        assert list(other.scan()) == [(b"a", b"1"), (b"b", b"2")]
        assert (other.applied_index, other.conf_state) == (1, THREE)
        other.apply([entry(2, (b"a", b"changed"))])
        assert list(other_store.scan()) == list(machine.store.scan())


def test_a_snapshot_whose_pairs_are_of_another_index_is_refused(machine):
    machine.apply([entry(1, (b"a", b"1"))], THREE)
    snapshot = machine.snapshot()
    with snapshot.view, MemoryStore() as other_store, pytest.raises(CorruptionError, match="of index 9"):
        metadata = type(snapshot.metadata)(9, 1, THREE)
        StateMachine(other_store).recover_from_snapshot(metadata, snapshot.pairs())


def test_a_store_with_somebody_elses_keys_is_refused():
    with MemoryStore() as store:
        batch = WriteBatch()
        batch.put(b"somebody", b"else's")
        store.write(batch)
        with pytest.raises(CorruptionError, match="empty directory"):
            StateMachine(store)

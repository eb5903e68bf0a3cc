"""The address book: its bytes, what changes do to it, and that no crash takes it apart from the configuration."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import CorruptionError
from engines.coding import DecodeError
from engines.kvstore import KVStore
from engines.memory import MemoryStore
from engines.simdisk import Policy
from engines.simenv import Call, SimEnv
from raft.kinds import ConfChangeType
from raft.raftpb import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    MSG_APP,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
)
from server import address_book
from server.address_book import AddressBook, Book, BookChange, Member, Record, first_book
from server.errors import UndecodableEntry
from server.statemachine import StateMachine, encode_proposal
from tests.chapters.replicas import Replica

SEED = int(os.environ.get("METCD_SEED", "0"))
U64, PORTS = st.integers(0, 2**64 - 1), st.integers(0, 65_535)
HOSTS = st.text(max_size=20)
MEMBER = st.builds(Member, HOSTS, PORTS, U64, U64, st.booleans())
BOOKS = st.builds(Book, st.dictionaries(U64, MEMBER, max_size=5), st.dictionaries(U64, U64, max_size=5))
CHANGES = st.builds(
    BookChange, U64, U64, st.lists(st.builds(Record, U64, HOSTS, PORTS, U64, st.booleans()), max_size=3).map(tuple)
)
FIRST = first_book({1: ("127.0.0.1", 3380), 2: ("127.0.0.1", 13380), 3: ("::1", 23380)})
THREE = ConfState(voters=(1, 2, 3))


def change(kind: ConfChangeType, node: int, *records: Record) -> ConfChangeV2:
    context = BookChange(7, 1, records).encode() if records else b""
    return ConfChangeV2(changes=(ConfChangeSingle(kind, node),), context=context)


def entry(index: int, of: ConfChangeV2 | ConfChange) -> Entry:
    kind = ENTRY_CONF_CHANGE if isinstance(of, ConfChange) else ENTRY_CONF_CHANGE_V2
    return Entry(1, index, kind, of.encode())


# ---- bytes ----------------------------------------------------------------------------------------------------------


def test_golden_bytes_of_a_book():
    """The byte table of server/address_book.py."""
    book = Book({1: Member("a", 3380), 4: Member("::1", 256, 0xFEED, 17, True)}, {2: 9})
    assert book.encode().hex(" ") == (
        "01 02 00 00 00 "
        "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 34 0d 01 00 61 "
        "04 00 00 00 00 00 00 00 ed fe 00 00 00 00 00 00 11 00 00 00 00 00 00 00 01 00 01 03 00 3a 3a 31 "
        "01 00 00 00 02 00 00 00 00 00 00 00 09 00 00 00 00 00 00 00"
    )
    assert book.dump() == [
        "node 1 at a:3380, voter, of the first list",
        "node 4 at [::1]:256, learner, admitted at entry 17, directory 000000000000feed",
        "node 2 was removed at entry 9",
    ]


def test_golden_bytes_of_a_change():
    encoded = BookChange(1, 2, (Record(4, "a", 3380, 5, True),)).encode()
    assert encoded.hex(" ") == (
        "01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 01 01 00 "
        "01 04 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00 34 0d 01 00 61"
    )


@given(BOOKS)
def test_a_book_decodes_to_what_was_encoded(book):
    assert Book.decode(book.encode()) == book


@given(CHANGES)
def test_a_change_decodes_to_what_was_encoded(one):
    assert BookChange.decode(one.encode()) == one


@pytest.mark.parametrize("decode", [Book.decode, BookChange.decode])
@given(data=st.binary(max_size=60) | BOOKS.map(Book.encode) | CHANGES.map(BookChange.encode), cut=st.integers(0, 80))
def test_arbitrary_bytes_decode_or_are_refused(decode, data, cut):
    for found in (data, data[:cut], data + b"\0"):
        try:
            again = decode(found)
        except DecodeError:
            continue
        assert found in (again.encode(), b"")


# ---- changes --------------------------------------------------------------------------------------------------------


def test_a_member_comes_changes_and_goes():
    """Who votes comes from the configuration, where it is from the record, since when from the entry's index."""
    four = BookChange(records=(Record(4, "d", 4, admits=True),))
    book = FIRST.changed(10, four, ConfState((1, 2, 3), (4,)))
    assert book.members[4] == Member("d", 4, 0, 10, True)
    book = book.changed(11, BookChange(), ConfState((1, 2, 3, 4)))
    assert book.members[4] == Member("d", 4, 0, 10)
    book = book.changed(12, BookChange(records=(Record(4, "e", 5, 6),)), ConfState((1, 2, 3, 4)))
    assert book.members[4] == Member("e", 5, 6, 10)
    book = book.changed(13, BookChange(), ConfState((1, 2, 3)))
    assert (book.members, book.removed) == (FIRST.members, {4: 13})
    book = book.changed(14, four, ConfState((1, 2, 3), (4,)))
    assert (book.members[4].admitted, book.removed) == (14, {})


def test_a_joint_configuration_needs_its_outgoing_members():
    joint = ConfState((1, 2), (), (1, 2, 3), (), True)
    book = FIRST.changed(5, BookChange(), joint)
    assert book.members == FIRST.members
    assert book.changed(6, BookChange(), ConfState((1, 2))).removed == {3: 6}


def test_removed_ids_are_bounded_and_the_oldest_go(monkeypatch):
    monkeypatch.setattr(address_book, "REMOVED_MAX", 2)
    book = Book({1: Member("a", 1)}, {7: 3, 8: 4}).changed(5, BookChange(), ConfState((2,)))
    assert book.removed == {8: 4, 1: 5}


# ---- in the state machine -------------------------------------------------------------------------------------------


def machine_on(store: KVStore) -> tuple[StateMachine, AddressBook]:
    kept = AddressBook(FIRST)
    return StateMachine(store, 9, own_keys=[kept]), kept


def test_the_book_is_in_the_batch_of_the_change_and_in_snapshots():
    machine, kept = machine_on(MemoryStore())
    machine.apply([Entry(1, 1)], THREE)
    assert Book.decode(machine.store.get(b"mmembers")) == FIRST
    batches = []
    write = machine.store.write
    machine.store.write = lambda batch, *, sync: batches.append(dict(batch.operations)) or write(batch, sync=sync)
    members = ConfState((1, 2, 3), (4,))
    machine.note_members(3, members)
    added = change(CONF_CHANGE_ADD_LEARNER_NODE, 4, Record(4, "d", 4, admits=True))
    machine.apply([Entry(1, 2, data=encode_proposal(1, 1, [(b"a", b"1")])), entry(3, added)], members)
    [batch] = batches
    assert {b"ka", b"mapplied", b"mconf_state", b"mdigest", b"mmembers"} == batch.keys()
    assert kept.book.members[4] == Member("d", 4, 0, 3, True)
    metadata, view = machine.snapshot()
    other, read = machine_on(MemoryStore())
    other.recover_from_snapshot(metadata, view.scan())
    assert read.book == kept.book
    machine.apply([Entry(1, 4)])
    assert b"mmembers" not in batches[-1]


@given(st.lists(st.integers(0, 2), max_size=8), st.randoms(use_true_random=False))
def test_however_entries_are_divided_into_batches_the_bytes_are_the_same(turns, rng):
    """Invariant 3 of the state machine: here node 4 comes, goes, comes again, or is turned into a voter."""
    entries: list[Entry] = [Entry(1, 1)]
    states: dict[int, ConfState] = {1: THREE}
    for index, turn in enumerate(turns, 2):
        kind = (CONF_CHANGE_ADD_NODE, CONF_CHANGE_ADD_LEARNER_NODE, CONF_CHANGE_REMOVE_NODE)[turn]
        records = () if turn == 2 else (Record(4, "d", index, admits=bool(index % 2)),)
        entries.append(entry(index, change(kind, 4, *records)))
        states[index] = (ConfState((1, 2, 3, 4)), ConfState((1, 2, 3), (4,)), THREE)[turn]
    contents = []
    for step in (1, len(entries), rng.randint(1, len(entries))):
        machine, kept = machine_on(MemoryStore())
        for at in range(0, len(entries), step):
            some = entries[at : at + step]
            for each in some:
                if each.index > 1:
                    machine.note_members(each.index, states[each.index])
            machine.apply(some, states[some[-1].index])
        assert kept.book.encode() == machine.store.get(b"mmembers")
        contents.append(list(machine.store.scan()))
    assert contents[0] == contents[1] == contents[2]


def test_a_store_of_an_earlier_version_has_the_first_list_until_something_changes():
    store = MemoryStore()
    StateMachine(store, 9).apply([Entry(1, 1)], THREE)
    machine, kept = machine_on(store)
    machine.apply([Entry(1, 2)])
    assert (store.get(b"mmembers"), kept.book) == (None, FIRST)


def test_a_damaged_book_is_no_book():
    machine, _ = machine_on(MemoryStore())
    machine.apply([Entry(1, 1)], THREE)
    machine.store.put(b"mmembers", FIRST.encode()[:-1])
    with pytest.raises(CorruptionError, match="an address book ends in the middle"):
        machine_on(machine.store)


def test_a_change_whose_words_nobody_understands_stops_every_node_alike():
    bad = entry(1, ConfChangeV2(changes=(ConfChangeSingle(CONF_CHANGE_ADD_NODE, 4),), context=b"http://a:1"))
    with pytest.raises(UndecodableEntry, match="a change of the address book ends in the middle"):
        StateMachine(MemoryStore()).conf_change(bad)
    assert StateMachine(MemoryStore(), skip_entries={1}).conf_change(bad).as_v2().changes[0].node_id == 0


# ---- in a node ------------------------------------------------------------------------------------------------------


def app(*entries: Entry, commit: int) -> Message:
    index = entries[0].index - 1
    return Message(
        MSG_APP, to=1, from_=2, term=1, log_term=min(index, 1), index=index, entries=list(entries), commit=commit
    )


MADE = [
    Entry(1, 1),
    entry(2, change(CONF_CHANGE_ADD_LEARNER_NODE, 4, Record(4, "d", 4, admits=True))),
    Entry(1, 3, data=encode_proposal(1, 1, [(b"a", b"1")])),
    entry(4, ConfChange(CONF_CHANGE_ADD_NODE, 4)),
    entry(5, change(CONF_CHANGE_REMOVE_NODE, 3)),
    entry(6, ConfChangeV2(changes=tuple(ConfChangeSingle(kind, node) for kind, node in
                                        ((CONF_CHANGE_REMOVE_NODE, 2), (CONF_CHANGE_ADD_NODE, 3))),
                          context=BookChange(7, 2, (Record(3, "c", 3, admits=True),)).encode())),
    entry(7, ConfChangeV2()),
]  # fmt: skip


def agree(node: Replica) -> None:
    """Invariant 1 of the book, on what the node found or has."""
    members, state = node.members.book.members, node.machine.conf_state or THREE
    assert members.keys() == {*state.voters, *state.learners, *state.voters_outgoing}, node.machine.applied_index
    assert {each for each in members if members[each].learner} == set(state.learners)


@pytest.mark.parametrize("engine", ["memory", "lsm", "btree", "bitcask"])
@pytest.mark.parametrize("batches", [[7], [1, 1, 1, 1, 1, 1, 1], [2, 3, 2]])
def test_book_and_configuration_agree_after_a_power_cut_at_any_call(engine, batches):
    """Changes of both kinds, a joint configuration among them; the power goes after each call that changes the disk."""
    print("METCD_SEED =", SEED)
    rng = random.Random(SEED)
    disk = SimEnv(SEED)
    node = Replica(1, engine, disk)
    images: dict[int, tuple[int, Policy, SimEnv]] = {}

    def cut(call: Call) -> None:
        for policy in (Policy.EVERYTHING, rng.choice(list(Policy))):
            image = disk.crash(policy, rng)
            images[image.fingerprint()] = (call.number, policy, image)

    disk.after_call = cut
    at = 0
    for size in batches:
        node.step(app(*MADE[at : at + size], commit=at + size))
        at += size
        agree(node)
    disk.after_call = None
    assert node.members.book.dump() == [
        "node 1 at 127.0.0.1:3381, voter, of the first list",
        "node 3 at c:3, voter, admitted at entry 6",
        "node 4 at d:4, voter, admitted at entry 2",
        "node 2 was removed at entry 7",
    ]
    for number, policy, image in images.values():
        found = Replica(1, engine, image)
        agree(found)
        found.run()
        agree(found)
        if found.raft.commit_index < 7:
            found.step(app(*MADE[found.raft.commit_index :], commit=7))
        assert found.members.book == node.members.book, (number, policy)

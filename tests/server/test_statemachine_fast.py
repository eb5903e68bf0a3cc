"""The fast form of `apply` does what the plain one does: the same rows, outcomes and changes, batch by batch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.raftpb import CONF_CHANGE_ADD_NODE, ENTRY_CONF_CHANGE, ConfChange, Entry
from server.errors import UndecodableEntry
from server.evaluation import Request
from server.mvcc_compaction import EVERY, OWED_MAX
from server.proposal_bytes import decode_proposal, decode_put, encode_proposal
from server.sessions import OPENS, Serial
from server.statemachine import StateMachine
from server.statemachine_fast import FastMachine
from tests.server.mvcc_model import Store, machine_on, request

PUT = st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"", b"1", b"=", b"x" * 90]))
DELETE = st.tuples(st.sampled_from([b"a", b"b"]), st.none())
ENTRY: st.SearchStrategy[Any] = (
    st.lists(PUT, min_size=1, max_size=1)
    | st.lists(PUT | DELETE, max_size=3)
    | st.sampled_from(
        [
            [request([("put", "a", "leased", 7)])],
            [request([("put", "b", "unleased", 0), ("read",)])],
            [request([("delete", "c")])],
            [request([("put", "a", "1", 0), ("fail",)])],
            [request([("compact", 5)])],
            [Request(b"")],
            [OPENS],
            [Serial(1, 1), (b"a", b"once")],
        ]
    )
)
BATCHES = st.lists(st.lists(ENTRY | st.just("conf change"), min_size=1, max_size=8), min_size=1, max_size=6)


def entry_of(index: int, what: Any) -> Entry:
    if what == "conf change":
        return Entry(1, index, ENTRY_CONF_CHANGE, ConfChange(CONF_CHANGE_ADD_NODE, 1).encode())
    return Entry(1, index, data=encode_proposal(7, index, what))


@given(
    batches=BATCHES, before=st.integers(0, 3) | st.integers(EVERY - 9, EVERY), owed=st.sampled_from([0, OWED_MAX - 4])
)
def test_both_forms_do_the_same(batches, before, owed):
    """From any place in the rhythm of compaction on, with any debt."""
    ours: list[list[Any]] = [[], []]
    for form, came_to in zip((StateMachine, FastMachine), ours):
        store = Store(machine_on("memory", form=form))
        store.machine.changes_taps.append(lambda changes, came_to=came_to: came_to.append(list(changes)))
        store.add([Request(b"")])
        store.add([(b"%d" % key, b"") for key in range(owed)])
        for _ in range(before):
            store.add([(b"b", b"before")])
        store.apply()
        machine = store.machine
        for batch in batches:
            entries = [entry_of(machine.applied_index + at, what) for at, what in enumerate(batch, 1)]
            came_to.append([tuple(map(repr, each)) for each in machine.apply(entries)])
            came_to += [machine.applied_index, machine.revisions, list(machine.store.scan()), machine.digest.now]
    assert ours[0] == ours[1]


def test_an_entry_that_cannot_be_decoded_is_refused_and_nothing_is_applied():
    store = Store(machine_on("memory"))
    store.add([Request(b"")])
    store.add([(b"a", b"1")])
    store.apply()
    rows = list(store.machine.store.scan())
    good = encode_proposal(7, 3, [(b"a", b"2")])
    for broken in (good[:-1], good + b"x", good[:20] + b"\5" + good[21:]):
        with pytest.raises(UndecodableEntry):
            store.machine.apply([Entry(1, 3, data=good), Entry(1, 4, data=broken)])
        assert list(store.machine.store.scan()) == rows


@given(st.lists(PUT | DELETE, max_size=2), st.integers(0, 40), st.binary(max_size=3))
def test_a_put_is_found_only_where_there_is_one_put(operations, cut, tail):
    """Whatever it takes for a put, `decode_proposal` does as well."""
    data = encode_proposal(7, 3, operations)
    for each in (data, data[: len(data) - cut], data + tail):
        found = decode_put(each)
        if found is not None:
            origin, sequence, key, value = found
            assert decode_proposal(each) == (origin, sequence, [(key, value)])
    is_put = len(operations) == 1 and operations[0][1] is not None
    assert (decode_put(data) is not None) == is_put

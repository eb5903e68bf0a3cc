"""server/v3/attributes.py: what members publish is kept while they are members, and published until it is kept."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from raft.raftpb import ENTRY_CONF_CHANGE_V2, ConfState, Entry
from server.v3 import rpc
from server.v3.attributes import NAME_ROW, NOTHING, PUBLISH_AGAIN_S, Attributes, Publisher, Said

Step = tuple[int, str]  # a member publishes this name; "" removes it, "+" lets it in


class Log:
    """Entries of a log that are applied in batches, and who the members are meanwhile."""

    def __init__(self, store: MemoryStore) -> None:
        self.members = {1, 2, 3}
        self.after: dict[int, ConfState] = {}
        self.store = store
        self.attributes = Attributes(lambda: self.members)
        self.attributes.read(store)

    def members_after(self, index: int) -> ConfState:
        return self.after[index]

    def apply(self, first: int, steps: list[Step]) -> None:
        """One batch."""
        entries, members = [], set(self.members)
        for index, (member, name) in enumerate(steps, first):
            if name in ("", "+"):
                members = members | {member} if name else members - {member}
                self.after[index] = ConfState(voters=tuple(sorted(members)))
                entries.append(Entry(1, index, ENTRY_CONF_CHANGE_V2))
            else:
                said = rpc.Attributes(name, [f"http://{name}:1"])
                self.attributes.set(index, rpc.ClusterMemberAttrSetRequest(member, said))
                entries.append(Entry(1, index))
        batch = WriteBatch()
        self.attributes.put(batch, entries, self)
        self.store.write(batch)
        self.attributes.written()
        self.members = members


def kept(attributes: Attributes) -> dict[int, Said]:
    return {member: said for member in range(10) if (said := attributes.of(member)) != NOTHING}


def test_a_member_keeps_what_it_published_last() -> None:
    log = Log(MemoryStore())
    log.apply(1, [(1, "a"), (2, "b"), (1, "c")])
    assert kept(log.attributes) == {1: Said("c", ("http://c:1",)), 2: Said("b", ("http://b:1",))}


def test_what_is_kept_goes_with_the_member() -> None:
    """And an id that is used again begins without a name."""
    log = Log(MemoryStore())
    log.apply(1, [(1, "a"), (2, "b")])
    log.apply(3, [(1, ""), (1, "late"), (1, "+")])
    assert kept(log.attributes).keys() == {2}
    assert [key for key, _ in log.store.scan()] == [NAME_ROW + (2).to_bytes(8, "big")]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "+", "a", "b"])), max_size=12),
    st.sets(st.integers(0, 12)),
)
def test_it_is_the_same_however_entries_are_divided_into_batches(steps: list[Step], cuts: set[int]) -> None:
    whole, divided = Log(MemoryStore()), Log(MemoryStore())
    whole.apply(1, steps)
    for begin, end in pairwise([0, *sorted(cut for cut in cuts if cut < len(steps)), len(steps)]):
        divided.apply(begin + 1, steps[begin:end])
    assert list(whole.store.scan()) == list(divided.store.scan())
    again = Attributes(lambda: whole.members)
    again.read(whole.store)
    assert kept(again) == kept(whole.attributes) == kept(divided.attributes)


@pytest.mark.parametrize("key", [NAME_ROW + b"short", NAME_ROW + bytes(8)])
def test_a_row_of_something_else_is_said(key: bytes) -> None:
    store = MemoryStore()
    store.put(key, b"\xff" if len(key) == len(NAME_ROW) + 8 else b"")
    with pytest.raises(DecodeError, match="no member's attributes"):
        Attributes(lambda: ()).read(store)


def test_a_node_publishes_until_it_is_kept() -> None:
    log = Log(MemoryStore())
    publisher = Publisher(1, Said("a", ("http://a:1",)), log.attributes)
    request = publisher.due(10.0)
    assert request is not None and request.cluster_member_attr_set is not None
    assert request.cluster_member_attr_set.member_ID == 1
    assert publisher.due(10.0 + PUBLISH_AGAIN_S / 2) is None
    assert publisher.due(10.0 + PUBLISH_AGAIN_S) == request
    assert not publisher.published
    log.apply(1, [(1, "a")])
    assert publisher.published and publisher.due(100.0) is None
    log.apply(2, [(1, "other")])  # an earlier run of it, with another --name
    assert publisher.due(200.0) == request


def test_who_has_nothing_to_say_publishes_nothing() -> None:
    publisher = Publisher(1, NOTHING, Attributes(lambda: (1,)))
    assert publisher.published and publisher.due(10.0) is None

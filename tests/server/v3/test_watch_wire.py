"""What watchers are sent: the fast form gives the plain form's bytes, and fragments are etcd's."""

import contextlib
import json
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from server.mvcc import Change, Record
from server.v3 import watch_wire
from server.v3.rpc import ResponseHeader
from server.v3.watch_hub import Block
from server.v3.watch_wire import fast_chunks, lines_of_block, plain_chunks
from tests.server.v3.watch_world import World, entry_of


def headers(revision):
    return ResponseHeader(11, 1, revision, 7)


number = st.integers(1, 2**63 - 1)
record = st.builds(
    Record,
    st.binary(min_size=1, max_size=9),
    st.binary(max_size=9),
    number,
    number,
    number,
    st.integers(-3, 3),
    st.just(0),
)
change = record.flatmap(
    lambda made: st.sampled_from([
        Change(made.mod, 0, False, made, None),
        Change(made.mod, 0, True, Record(made.key, b"", 0, made.mod, 0, 0, 0), None),
    ])
)  # fmt: skip


@given(
    st.lists(st.tuples(change, st.none() | record), min_size=1, max_size=4),
    st.integers(-1, 300),
    st.booleans(),
    st.booleans(),
)
def test_the_fast_form_gives_the_same_bytes(pairs, watch_id, prev_kv, fragment):
    block = Block([change for change, _ in pairs], 17)
    if prev_kv:
        block.prevs = [prev for _, prev in pairs]
    wants = SimpleNamespace(watch_id=watch_id, prev_kv=prev_kv, fragment=fragment)
    plain = list(plain_chunks(block, wants, headers))
    assert list(fast_chunks(block, wants, headers)) == plain
    assert list(fast_chunks(block, wants, headers)) == plain, "made once, and given again"


def test_many_watch_ids_are_not_kept_with_the_block():
    block = Block([Change(2, 0, False, Record(b"a", b"1", 2, 2, 1, 0, 0), None)], 2)
    for watch_id in range(1000):
        (chunk,) = fast_chunks(block, SimpleNamespace(watch_id=watch_id, prev_kv=False, fragment=False), headers)
        assert (b'"watch_id":"%d"' % watch_id in chunk) == (watch_id != 0)
    assert len(block.made) <= watch_wire.CHUNKS_MAX


def sizes_of(block, fragment=True):
    wants = SimpleNamespace(watch_id=0, prev_kv=False, fragment=fragment)
    lines = [json.loads(line)["result"] for line in lines_of_block(block, wants, headers)]
    return [(len(line["events"]), line.get("fragment", False)) for line in lines]


def test_a_message_is_divided_where_etcd_divides_it():
    with contextlib.closing(World()) as world:
        for at in range(4):
            world.write(entry_of([(b"foo%d" % at, b"x" * 700_000)]))
        assert sizes_of(Block(world.all, 5)) == [(2, True), (2, False)]
        assert sizes_of(Block(world.all, 5), fragment=False) == [(4, False)]
        assert sizes_of(Block(world.all[:2], 5)) == [(2, False)]


def test_one_event_is_never_divided(monkeypatch):
    monkeypatch.setattr(watch_wire, "FRAGMENT_BYTES", 10)
    with contextlib.closing(World()) as world:
        world.write(entry_of([(b"a", b"1"), (b"b", b"2"), (b"c", None), (b"d", b"4")]))
        assert sizes_of(Block(world.all, 2)) == [(1, True), (1, True), (1, False)]
        assert sizes_of(Block(world.all[:1], 2)) == [(1, False)]

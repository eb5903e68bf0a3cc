"""What a user may touch: against a model that looks at single keys, and the traps that etcd's own history knows."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.v3.permissions import (
    FROM_KEY,
    READ,
    READWRITE,
    WRITE,
    Grant,
    Need,
    Ranges,
    needs_of_delete,
    needs_of_put,
    needs_of_txn,
    permissions_of,
)
from server.v3.rpc import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest

KEYS = st.binary(max_size=2).map(lambda key: bytes(b"\0abc"[byte % 4] for byte in key))
ENDS = st.one_of(st.just(b""), st.just(FROM_KEY), KEYS)
GRANTS = st.builds(Grant, st.sampled_from([READ, WRITE, READWRITE, 7]), KEYS, ENDS)


def _is_in(key: bytes, start: bytes, range_end: bytes) -> bool:
    if not start:  # the empty key is none
        return False
    if not range_end:
        return key == start
    return start <= key and (range_end == FROM_KEY or key < range_end)


def _is_permitted(grants: list[Grant], need: Need) -> bool:
    """The model: every key of the range for itself. Between two neighbours of `edges` all keys fare alike."""
    ends = [(need.key, need.range_end), *((grant.key, grant.range_end) for grant in grants)]
    edges = {edge for key, end in ends for edge in (key, key + b"\0", end)}
    kinds = (WRITE, READWRITE) if need.writes else (READ, READWRITE)
    able = [grant for grant in grants if grant.kind in kinds]
    return all(
        any(_is_in(key, grant.key, grant.range_end) for grant in able)
        for key in edges
        if _is_in(key, need.key, need.range_end)
    )


@given(st.lists(GRANTS, max_size=6), st.builds(Need, st.booleans(), KEYS, ENDS))
def test_a_range_is_permitted_if_every_key_in_it_is(grants, need):
    assume(need.key and (need.range_end in (b"", FROM_KEY) or need.range_end > need.key))  # else no key is in it
    assert permissions_of(grants).allow(need) == _is_permitted(grants, need)


def test_a_range_without_a_key_is_permitted_where_it_begins():
    """As etcd 3.5.1 has it: auth-permission-no-keys, and auth-user for what ends before it begins."""
    ranges = Ranges([(b"a", b"b"), (b"b", b"c")])
    assert ranges.hold(b"a", b"a")
    assert ranges.hold(b"b", b"b")
    assert not ranges.hold(b"c", b"c")
    assert not ranges.hold(b"b", b"a")  # [a, b) lies between
    assert Ranges([(b"a", b"c")]).hold(b"b", b"a")
    assert not ranges.hold(b"x", b"a")
    assert not Ranges([]).hold(b"b", b"b")
    assert not ranges.hold(b"x", b"b") and not ranges.hold(b"c", b"b")
    assert Ranges([(b"\0", FROM_KEY)]).hold(b"x", b"a")
    assert Ranges([(b"a", FROM_KEY)]).hold(b"x", b"a")


@pytest.mark.parametrize("range_end", [b"", b"b", FROM_KEY])
def test_a_permission_of_the_empty_key_permits_nothing(range_end):
    """As in etcd, where an empty key is after all others: auth-permission-empty-key."""
    permissions = permissions_of([Grant(READWRITE, b"", range_end)])
    assert not permissions.allow(Need(False, b"a"))
    assert not permissions.allow(Need(True, b"a", b"b"))
    assert not permissions.allow(Need(False, b"\0", FROM_KEY))


@pytest.mark.parametrize(
    ("key", "range_end", "permitted"),
    [
        (b"app/", b"app0", True),  # the prefix itself
        (b"app/1", b"", True),
        (b"app/", b"app/zzz", True),
        (b"app", b"", False),  # the key before the first slash
        (b"app0", b"", False),  # range_end itself is out
        (b"app", b"app0", False),  # begins too early
        (b"app/", b"app1", False),  # ends too late
        (b"app/", FROM_KEY, False),  # doesn't end
        (FROM_KEY, FROM_KEY, False),  # all keys
        (b"", b"app/1", False),
        (b"app/1", b"app0\0", False),  # one key too many
    ],
)
def test_what_crosses_the_end_of_a_prefix_is_denied(key, range_end, permitted):
    permissions = permissions_of([Grant(READWRITE, b"app/", b"app0")])
    assert permissions.allow(Need(False, key, range_end)) is permitted
    assert permissions.allow(Need(True, key, range_end)) is permitted


def test_neighbours_are_one_range_and_a_hole_stays_a_hole():
    assert Ranges([(b"b", b"c"), (b"a", b"b")]).hold(b"a", b"c")
    assert not Ranges([(b"a", b"b"), (b"b\0", b"c")]).hold(b"a", b"c")
    assert Ranges([(b"a", b""), (b"a\0", b"c")]).hold(b"a", b"c")


def test_ranges_that_meet_are_one_wherever_they_lie_among_others():
    """The earlier ones stay as they are: nothing between them is permitted."""
    ranges = Ranges(
        [
            (b"a", b"b"),
            (b"d", b"f"),
            (b"e", b"g"),
            (b"ea", b"eb"),
            (b"g", b"h"),
            (b"gx", b""),
            (b"k", FROM_KEY),
            (b"l", b"m"),
        ]
    )
    assert ranges.hold(b"d", b"h")
    assert ranges.hold(b"k", FROM_KEY)
    for hole in (b"b", b"c", b"h", b"j"):
        assert not ranges.hold(hole)
    assert not ranges.hold(b"a", b"d")
    assert not ranges.hold(b"a", b"h")


def test_to_read_is_not_to_write():
    permissions = permissions_of([Grant(READ, b"r"), Grant(WRITE, b"w"), Grant(READWRITE, b"x")])
    allowed = [
        (key, permissions.allow(Need(False, key)), permissions.allow(Need(True, key))) for key in (b"r", b"w", b"x")
    ]
    assert allowed == [(b"r", True, False), (b"w", False, True), (b"x", True, True)]


LEASED = {77: [b"theirs"]}


def _needs(request: TxnRequest) -> list[Need]:
    return list(needs_of_txn(request, lambda lease: LEASED.get(lease, [])))


def test_the_previous_pair_is_read():
    assert list(needs_of_put(PutRequest(b"k", prev_kv=True), LEASED.get)) == [Need(True, b"k"), Need(False, b"k")]
    assert list(needs_of_delete(DeleteRangeRequest(b"k", b"l"))) == [Need(True, b"k", b"l")]
    assert list(needs_of_delete(DeleteRangeRequest(b"k", b"l", True))) == [
        Need(True, b"k", b"l"),
        Need(False, b"k", b"l"),
    ]


def test_who_uses_a_lease_must_be_able_to_write_what_hangs_on_it():
    needs = list(needs_of_put(PutRequest(b"k", lease=77), lambda lease: LEASED.get(lease, [])))
    assert needs == [Need(True, b"k"), Need(True, b"theirs")]
    assert list(needs_of_put(PutRequest(b"k", lease=99), lambda lease: LEASED.get(lease, []))) == [Need(True, b"k")]


PUT = RequestOp(request_put=PutRequest(b"p", prev_kv=True, lease=77))
NEEDS_OF_PUT = [Need(True, b"p"), Need(True, b"theirs"), Need(False, b"p")]


@pytest.mark.parametrize("branch", ["success", "failure"])
def test_both_branches_of_a_transaction_count_with_all_that_a_put_needs(branch):
    assert _needs(TxnRequest(**{branch: [PUT]})) == NEEDS_OF_PUT


@pytest.mark.parametrize("outer", ["success", "failure"])
@pytest.mark.parametrize("inner", ["success", "failure"])
def test_a_nested_transaction_is_no_way_around(outer, inner):
    """Whatever stands in it, at any depth, counts as if it stood alone."""
    secret = RequestOp(request_range=RangeRequest(b"s", b"t"))
    for _ in range(3):
        secret = RequestOp(request_txn=TxnRequest([Compare(key=b"c", range_end=b"d")], **{inner: [secret]}))
    assert set(_needs(TxnRequest(**{outer: [secret]}))) == {Need(False, b"s", b"t"), Need(False, b"c", b"d")}


def test_a_compare_reads_its_range():
    assert _needs(TxnRequest([Compare(key=b"a"), Compare(key=b"b", range_end=FROM_KEY)])) == [
        Need(False, b"a"),
        Need(False, b"b", FROM_KEY),
    ]

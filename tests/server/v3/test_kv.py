"""Ranges, puts and deletes: what the random requests of tests/gateway don't reach, and what an answer costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.kvstore import KVStore
from engines.memory import MemoryStore
from server.limits import KEY_BYTES_MAX, RANGE_BYTES_MAX
from server.mvcc import Record, View
from server.v3 import kv, status
from server.v3.rpc import DeleteRangeRequest, PutRequest, RangeRequest
from server.v3.status import Code, Status
from tests.gateway.kv_direct import Direct
from tests.gateway.kv_model import coded


class CountingView(View):
    """How many versions were made, and how often the rest was only counted."""

    made = counted = 0

    def __init__(self, store: KVStore) -> None:
        super().__init__(store)
        self.store = store

    def range(self, start: bytes, stop: bytes | None, revision: int = 0) -> Iterator[Record]:
        for record in super().range(start, stop, revision):
            self.made += 1
            yield record

    def count(self, start: bytes, stop: bytes | None, revision: int = 0) -> int:
        self.counted += 1
        return sum(1 for _ in View.range(self, start, stop, revision))


@pytest.fixture
def hundred() -> CountingView:
    direct = Direct(MemoryStore())
    for number in range(100):
        direct.ask("kv/put", {"key": coded(b"%03d" % number), "value": coded(b"%d" % -number)})
    return CountingView(direct.machine.store)


def test_a_limit_makes_one_version_more_and_counts_the_rest(hundred: CountingView) -> None:
    answer = kv.range_of(hundred, RangeRequest(key=b"0", range_end=b"\0", limit=3))
    assert [each.key for each in answer.kvs] == [b"000", b"001", b"002"]
    assert (answer.more, answer.count) == (True, 100)
    assert (hundred.made, hundred.counted) == (4, 1)


def test_the_greatest_limit_that_json_has_is_none(hundred: CountingView) -> None:
    answer = kv.range_of(hundred, RangeRequest(key=b"0", range_end=b"\0", limit=(1 << 63) - 1))
    assert (len(answer.kvs), answer.more, answer.count) == (100, False, 100)


def test_counting_makes_none(hundred: CountingView) -> None:
    assert kv.range_of(hundred, RangeRequest(key=b"0", range_end=b"\0", count_only=True)).count == 100
    assert kv.range_of(hundred, RangeRequest(key=b"007", count_only=True)).count == 1
    assert hundred.made == 0


def test_a_limit_without_an_order_comes_before_the_sorting(hundred: CountingView) -> None:
    """As in etcd: the three first keys and one more are taken, sorted by value, and cut."""
    request = RangeRequest(key=b"0", range_end=b"\0", limit=3, sort_target=RangeRequest.SortTarget.VALUE)
    answer = kv.range_of(hundred, request)
    assert [each.value for each in answer.kvs] == [b"-1", b"-2", b"-3"]
    assert answer.more


def test_an_order_that_is_none_sorts_nothing_and_a_target_that_is_none_is_refused(hundred: CountingView) -> None:
    answer = kv.range_of(hundred, RangeRequest(key=b"098", range_end=b"\0", sort_order=7, sort_target=4))
    assert [each.key for each in answer.kvs] == [b"098", b"099"]


def test_a_key_that_no_engine_can_hold_is_refused_in_one_sentence() -> None:
    longest = b"k" * KEY_BYTES_MAX
    kv.check_put(PutRequest(key=longest))
    with pytest.raises(Status, match="at most 32,767 bytes") as refused:
        kv.check_put(PutRequest(key=longest + b"k"))
    assert refused.value.code == Code.INVALID_ARGUMENT
    direct = Direct(MemoryStore())
    for path in ("kv/range", "kv/deleterange"):  # what can't be there is not there
        assert direct.ask(path, {"key": coded(longest * 2)}) == (200, {"header": {"revision": "1"}})


@pytest.mark.parametrize(
    ("bounds", "keys"),
    [
        ({"min_mod_revision": 4}, [b"a", b"c", b"d"]),
        ({"max_mod_revision": 4}, [b"b", b"c"]),
        ({"min_create_revision": 4}, [b"c", b"d"]),
        ({"max_create_revision": 4}, [b"a", b"b", b"c"]),
    ],
)
@pytest.mark.parametrize("limit", [0, 1, 2, 9])
def test_a_filter_comes_before_the_limit_and_its_bound_is_within(
    bounds: dict[str, int], keys: list[bytes], limit: int
) -> None:
    direct = Direct(MemoryStore())
    for key in (b"a", b"b", b"c", b"d", b"a"):  # revisions 2 to 6
        direct.do("put", PutRequest(key=key))
    with direct.machine.view() as view:
        answer = kv.range_of(view, RangeRequest(key=b"a", range_end=b"\0", limit=limit, **bounds))
    wanted = keys[: limit or None]
    assert ([each.key for each in answer.kvs], answer.more, answer.count) == (wanted, len(wanted) < len(keys), 4)


def test_a_put_that_ignores_the_lease_or_the_value_leaves_it_as_it_is() -> None:
    direct = Direct(MemoryStore(), leases=[7, 8])
    key = {"key": coded(b"a")}
    direct.ask("kv/put", key | {"value": coded(b"1"), "lease": "7"})
    seen = []
    for body in (
        {"value": coded(b"2"), "ignore_lease": True},
        {"ignore_value": True, "lease": "8"},
        {"ignore_value": True},
    ):
        assert direct.ask("kv/put", key | body)[0] == 200
        [found] = direct.ask("kv/range", key)[1]["kvs"]
        seen.append((found["value"], found.get("lease"), found["version"]))
    assert seen == [(coded(b"2"), "7", "2"), (coded(b"2"), "8", "3"), (coded(b"2"), None, "4")]


def test_an_answer_has_so_many_bytes_and_no_more(hundred: CountingView, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a transaction, all its ranges together; and a delete with prev_kv, which then deletes nothing."""
    everything = RangeRequest(key=b"0", range_end=b"\0")
    most = sum(len(each.key) + len(each.value) + kv.VERSION_BYTES for each in kv.range_of(hundred, everything).kvs)
    assert kv.range_of(hundred, everything, kv.Room(most)).count == 100
    with pytest.raises(Status, match="ask for less, with a limit") as refused:
        kv.range_of(hundred, everything, kv.Room(most - 1))
    assert refused.value.code == Code.RESOURCE_EXHAUSTED
    assert kv.range_of(hundred, RangeRequest(key=b"0", range_end=b"\0", limit=9), kv.Room(most - 1)).more
    assert kv.Room().left == RANGE_BYTES_MAX
    monkeypatch.setattr(kv.Room.__init__, "__defaults__", (most,))
    direct = Direct(hundred.store)
    body = {"key": coded(b"0"), "range_end": coded(b"\0")}
    assert direct.ask("kv/txn", {"success": [{"request_range": body}]})[0] == 200
    assert direct.ask("kv/txn", {"success": [{"request_range": body}, {"request_range": body}]})[0] == 429
    monkeypatch.setattr(kv.Room.__init__, "__defaults__", (most - 1,))
    assert direct.ask("kv/deleterange", body | {"prev_kv": True})[0] == 429
    assert direct.ask("kv/deleterange", body)[1]["deleted"] == "100"


def test_no_key_is_no_request() -> None:
    for check, request in (
        (kv.check_range, RangeRequest(range_end=b"z")), (kv.check_put, PutRequest(value=b"v")),
        (kv.check_delete, DeleteRangeRequest(range_end=b"z")),
    ):  # fmt: skip
        _refused(status.EMPTY_KEY, lambda check=check, request=request: check(request))


def _refused(sentence: status.Sentence, call: object) -> None:
    with pytest.raises(Status) as refused:
        call()  # type: ignore[operator]
    assert (refused.value.code, refused.value.sentence) == sentence

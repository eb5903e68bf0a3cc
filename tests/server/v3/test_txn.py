"""Transactions: how many operations, which keys twice, what is taken back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from engines.memory import MemoryStore
from server.limits import TXN_OPERATIONS_MAX
from server.v3 import kv, txn
from server.v3.rpc import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from server.v3.status import Status
from tests.gateway.kv_direct import Direct
from tests.gateway.kv_model import coded

PUT_A, PUT_B, PUT_C = ({"request_put": {"key": coded(key)}} for key in (b"a", b"b", b"c"))


def delete(key: bytes, end: bytes = b"") -> dict[str, Any]:
    return {"request_delete_range": {"key": coded(key), "range_end": coded(end)}}


def inner(success: list[dict[str, Any]], failure: list[dict[str, Any]] = []) -> dict[str, Any]:  # noqa: B006
    return {"request_txn": {"success": success, "failure": failure}}


TAKEN = {
    "different keys": [PUT_A, PUT_B],
    "a key in both lists of an inner one": [inner([PUT_A], [PUT_A])],
    "a delete of other keys": [PUT_A, delete(b"b", b"d")],
    "deletes that overlap": [delete(b"a", b"c"), delete(b"b")],
    "a delete to the end, whose end is taken literally": [PUT_B, delete(b"a", b"\0")],
    "a delete that ends before it begins": [PUT_B, delete(b"c", b"a")],
    "an inner put before an inner delete of it": [inner([PUT_A]), inner([delete(b"a")])],
}
TWICE = {
    "the same key": [PUT_A, PUT_A],
    "a put and a delete of it": [PUT_B, delete(b"a", b"c")],
    "a delete and a put": [delete(b"b"), PUT_B],
    "of two inner ones": [inner([PUT_A]), inner([PUT_A])],
    "of the lists of two inner ones": [inner([PUT_A]), inner([], [PUT_A])],
    "outside and inside": [inner([PUT_A]), PUT_A],
    "a delete outside and a put inside": [inner([PUT_A]), delete(b"a")],
    "an inner delete before an inner put of it": [inner([delete(b"a")]), inner([PUT_A])],
    "a delete inside and a put outside": [inner([], [delete(b"a", b"c")]), PUT_B],
    "in the middle of ranges that meet": [delete(b"a", b"b"), delete(b"c", b"d"), delete(b"b", b"c"), PUT_C],
}


@pytest.mark.parametrize("name", TAKEN)
def test_these_may_be_in_one_transaction(name: str) -> None:
    assert Direct(MemoryStore()).ask("kv/txn", {"success": TAKEN[name]})[0] == 200


@pytest.mark.parametrize("name", TWICE)
def test_a_key_is_changed_once(name: str) -> None:
    """In the list that isn't done, too."""
    for body in ({"success": TWICE[name]}, {"failure": TWICE[name]}):
        status, answer = Direct(MemoryStore()).ask("kv/txn", body)
        assert (status, answer["message"]) == (400, "etcdserver: duplicate key given in txn request")


def test_ranges_that_are_deleted_are_found_however_they_meet(seed: int) -> None:
    """Against each range by itself."""
    rng = random.Random(seed)
    for _ in range(300):
        spans = [(bytes([rng.randrange(12)]), bytes([rng.randrange(12)])) for _ in range(rng.randrange(8))]
        key = bytes([rng.randrange(12)])
        operations = [RequestOp(request_delete_range=DeleteRangeRequest(key=a, range_end=z)) for a, z in spans]
        operations.insert(rng.randrange(len(spans) + 1), RequestOp(request_put=PutRequest(key=key)))
        clashes = any(start <= key < end for start, end in spans)
        try:
            txn.check(TxnRequest(success=operations))
        except Status:
            assert clashes, (key, spans)
        else:
            assert not clashes, (key, spans)


def test_so_many_operations_and_no_more() -> None:
    """In each list; an inner transaction has so many less, which bounds the depth, too."""
    one = RequestOp(request_range=RangeRequest(key=b"a"))
    most = [one] * TXN_OPERATIONS_MAX
    compare = Compare(key=b"a")
    txn.check(TxnRequest(compare=[compare] * TXN_OPERATIONS_MAX, success=most, failure=most))
    deep = TxnRequest(success=[one] * 28)
    txn.check(TxnRequest(success=[*[one] * 99, RequestOp(request_txn=deep)]))
    for request in (
        TxnRequest(success=[*most, one]), TxnRequest(failure=[*most, one]),
        TxnRequest(compare=[compare] * (TXN_OPERATIONS_MAX + 1)),
        TxnRequest(success=[*[one] * 100, RequestOp(request_txn=TxnRequest(success=[one] * 29))]),
    ):  # fmt: skip
        with pytest.raises(Status, match="too many operations in txn request"):
            txn.check(request)


def test_what_is_refused_half_way_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room in an answer is known when it is read, after a put of the same transaction."""
    direct = Direct(MemoryStore())
    direct.ask("kv/put", {"key": coded(b"a"), "value": coded(b"old")})
    rows = list(direct.machine.store.scan(b"h", b"l"))
    monkeypatch.setattr(kv.Room.__init__, "__defaults__", (10,))
    put = RequestOp(request_put=PutRequest(key=b"b", value=b"v" * 20))
    read = RequestOp(request_range=RangeRequest(key=b"b", range_end=b"c"))
    with pytest.raises(Status, match="bytes of keys and values"):
        direct.do("txn", TxnRequest(success=[put, read]))
    assert list(direct.machine.store.scan(b"h", b"l")) == rows
    assert direct.ask("kv/put", {"key": coded(b"c")})[1] == {"header": {"revision": "3"}}


ONE, RANGE = {"key": coded(b"a")}, {"key": coded(b"a"), "range_end": coded(b"b")}
ANSWERED = {
    "a key": {"request_range": ONE},
    "a range": {"request_range": RANGE},
    "a range with a limit": {"request_range": RANGE | {"limit": 1}},
    "what a put replaced": {"request_put": ONE | {"prev_kv": True}},
    "what was deleted": {"request_delete_range": ONE | {"prev_kv": True}},
}


@pytest.mark.parametrize("name", ANSWERED)
def test_all_that_a_transaction_answers_has_room_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the operation, and at whatever depth: no request takes the memory of the node."""
    direct = Direct(MemoryStore())
    direct.ask("kv/put", {"key": coded(b"a"), "value": coded(b"v" * 1000)})
    two = {"success": [{"request_range": ONE}, inner([ANSWERED[name]])]}
    monkeypatch.setattr(kv.Room.__init__, "__defaults__", (2 * (1001 + kv.VERSION_BYTES) - 1,))
    assert direct.ask("kv/txn", two)[0] == 429
    assert direct.ask("kv/txn", {"success": [ANSWERED[name]]})[0] == 200
    monkeypatch.setattr(kv.Room.__init__, "__defaults__", (2 * (1001 + kv.VERSION_BYTES),))
    direct.ask("kv/put", {"key": coded(b"a"), "value": coded(b"v" * 1000)})
    assert direct.ask("kv/txn", two)[0] == 200


def test_the_revision_that_a_transaction_makes_is_still_to_come_for_its_own_ranges() -> None:
    direct = Direct(MemoryStore())
    at = [{"request_range": ONE | {"revision": revision}} for revision in ("1", "2")]
    assert direct.ask("kv/txn", {"success": [PUT_A, at[1]]})[1]["message"] == (
        "etcdserver: mvcc: required revision is a future revision"
    )
    assert direct.ask("kv/txn", {"success": [PUT_A, at[0]]})[0] == 200


def test_a_result_that_is_none_of_the_four_holds() -> None:
    answer = Direct(MemoryStore()).ask("kv/txn", {"compare": [{"key": coded(b"a"), "result": 9, "version": 7}]})
    assert answer == (200, {"header": {"revision": "1"}, "succeeded": True})


def test_what_only_reads_is_told_from_what_writes() -> None:
    local = RequestOp(request_range=RangeRequest(key=b"a", serializable=True))
    linear = RequestOp(request_range=RangeRequest(key=b"a"))
    put = RequestOp(request_put=PutRequest(key=b"a"))
    nested = RequestOp(request_txn=TxnRequest(success=[linear]))
    assert txn.only_reads(TxnRequest(success=[linear], failure=[local])) and txn.only_reads(TxnRequest())
    assert not any(txn.only_reads(TxnRequest(failure=[each])) for each in (put, nested))
    assert txn.is_serializable(TxnRequest(success=[local], failure=[local])) and txn.is_serializable(TxnRequest())
    assert not txn.is_serializable(TxnRequest(success=[local], failure=[linear]))

"""Protobuf's bytes, from the other side: golden ones, and what a decoder has to take or refuse."""

from __future__ import annotations

import pytest

from server.v3 import rpc, wire
from server.v3.messages import MESSAGE_DEPTH_MAX


def test_golden_bytes_of_a_proposal() -> None:
    """Field 4 (put), in it fields 1, 2 and 3; -5 takes ten bytes."""
    request = rpc.InternalRaftRequest(put=rpc.PutRequest(key=b"a", value=b"b", lease=-5))
    golden = bytes.fromhex("22 11 0a 01 61 12 01 62 18 fb ff ff ff ff ff ff ff ff 01")
    assert wire.encode(request) == golden
    assert wire.decode(rpc.InternalRaftRequest, golden) == request


def test_a_request_without_fields_is_still_there() -> None:
    """auth_enable has no fields: tag 1000 << 3 | 2, and nothing."""
    request = rpc.InternalRaftRequest(auth_enable=rpc.AuthEnableRequest())
    assert wire.encode(request) == bytes.fromhex("c2 3e 00")
    assert wire.decode(rpc.InternalRaftRequest, wire.encode(request)) == request


def test_lists_of_enums_are_packed_and_taken_either_way() -> None:
    packed = wire.encode(rpc.WatchCreateRequest(filters=[1, 0]))
    assert packed == bytes.fromhex("2a 02 01 00")
    assert wire.decode(rpc.WatchCreateRequest, bytes.fromhex("28 01 28 00")) == rpc.WatchCreateRequest(filters=[1, 0])


def test_negative_numbers_take_ten_bytes_and_come_back() -> None:
    for message in (rpc.Event(type=-1), rpc.LeaseGrantRequest(TTL=-1, ID=-(1 << 63))):
        assert wire.decode(type(message), wire.encode(message)) == message
    assert wire.encode(rpc.Event(type=-1)) == b"\x08" + b"\xff" * 9 + b"\x01"


def test_a_member_of_a_oneof_may_be_zero_and_takes_the_place_of_the_others() -> None:
    compare = rpc.Compare(version=0)
    assert wire.decode(rpc.Compare, wire.encode(compare)) == compare
    assert wire.decode(rpc.Compare, b"\x20\x07\x3a\x01v") == rpc.Compare(value=b"v")


def test_fields_that_are_not_known_are_passed_over() -> None:
    unknown = b"\x78\x01" + b"\x7a\x02no" + b"\x7d" + bytes(4) + b"\x79" + bytes(8)
    assert wire.decode(rpc.PutRequest, unknown + b"\x0a\x01k") == rpc.PutRequest(key=b"k")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("0a", "a varint begins"),
        ("0a 05 61", "a field of 5 bytes"),
        ("08 01", "comes as a varint"),
        ("1a 01 61", "comes as 1 bytes"),
        ("0b", "has the type 3"),
        ("00 01", "can't have the number 0"),
    ],
)
def test_what_is_no_message_is_refused(data: str, why: str) -> None:
    with pytest.raises(wire.DecodeError, match=why):
        wire.decode(rpc.PutRequest, bytes.fromhex(data))


def test_nothing_nests_without_end() -> None:
    operation = rpc.RequestOp(request_txn=rpc.TxnRequest())
    for _ in range(MESSAGE_DEPTH_MAX):
        operation = rpc.RequestOp(request_txn=rpc.TxnRequest(success=[operation]))
    with pytest.raises(wire.DecodeError, match="nest deeper"):
        wire.decode(rpc.RequestOp, wire.encode(operation))

"""The fast form of protobuf makes what the plain form makes, of all messages and of bytes that are nearly one."""

from __future__ import annotations

import random

import pytest

from engines.coding import DecodeError
from server.v3 import rpc
from server.v3.fast_wire import decode_fast
from server.v3.messages import Message
from server.v3.plain_wire import decode_plain, encode_plain
from tests.conftest import SEED
from tests.server.v3 import bodies


def outcome(decode: object, cls: type[Message], data: bytes) -> object:
    """The message, or the sentence that it isn't one."""
    try:
        return decode(cls, data)  # type: ignore[operator]
    except DecodeError as refused:
        return str(refused)


def test_any_message_comes_back() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(400):
        message = bodies.message(rng, rng.choice(bodies.CLASSES))
        data = encode_plain(message)
        assert decode_fast(type(message), data) == message == decode_plain(type(message), data)


def check_mutated(count: int, seed: int) -> tuple[int, int]:
    """How many of the changed encodings were taken, and how many refused."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    taken = 0
    for _ in range(count):
        message = bodies.message(rng, rng.choice(bodies.CLASSES))
        data = bytearray(encode_plain(message) or rng.randbytes(3))
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.choice([0, 1, 1, 3])] = rng.choice(
                [b"", rng.randbytes(1), b"\x80", b"\xff\x01", data[:4]]
            )
        plain = outcome(decode_plain, type(message), bytes(data))
        assert outcome(decode_fast, type(message), bytes(data)) == plain, (type(message), bytes(data))
        taken += isinstance(plain, Message)
    return taken, count - taken


def test_bytes_that_are_nearly_a_message_are_decoded_or_refused_alike() -> None:
    taken, refused = check_mutated(2000, SEED + 1)
    assert taken > 100
    assert refused > 1000


@pytest.mark.slow
def test_a_hundred_thousand_of_them() -> None:
    assert sum(check_mutated(100_000, SEED + 2)) == 100_000


def test_the_fast_form_decodes_the_usual_proposals_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be equal to the plain form because it is the plain form."""

    def never(*_: object) -> None:
        raise AssertionError("asked the plain form")

    monkeypatch.setattr("server.v3.fast_wire.decode_plain", never)
    head = rpc.RequestHeader(ID=1 << 63, username="root", auth_revision=300)
    operation = rpc.RequestOp(request_put=rpc.PutRequest(key=b"k" * 200, value=b"v", lease=-1))
    for request in (
        rpc.InternalRaftRequest(
            header=head, put=rpc.PutRequest(key=b"a", value=b"v" * 70_000, lease=1 << 40, prev_kv=True)
        ),
        rpc.InternalRaftRequest(
            txn=rpc.TxnRequest(compare=[rpc.Compare(target=2, mod_revision=0)], success=[operation])
        ),
        rpc.InternalRaftRequest(auth_user_add=rpc.AuthUserAddRequest(name="é")),
    ):
        assert decode_fast(rpc.InternalRaftRequest, encode_plain(request)) == request

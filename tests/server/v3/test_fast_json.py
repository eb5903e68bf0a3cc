"""The fast form of the gateway's JSON makes what the plain form makes, of all messages and of what is nearly one."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.v3 import rpc, wire
from server.v3.fast_json import parse_fast, render_fast
from server.v3.messages import MESSAGE_DEPTH_MAX, Message, fields_of
from server.v3.plain_json import parse_plain, render_plain
from server.v3.status import Status
from tests.conftest import SEED
from tests.server.v3 import bodies

ODD = ["0", "-0", "7", "07", "YQ==", "YWI=", "READ", "DESCEND", "1e2", "9" * 19, "𝄞"]


def outcome(parse: object, cls: type[Message], text: bytes) -> object:
    """The message, or etcd's sentence; nothing else may come of a body."""
    try:
        return parse(cls, text)  # type: ignore[operator]
    except Status as refused:
        return refused.code, refused.sentence


def drawn(count: int, seed: int) -> Iterator[tuple[random.Random, Message]]:
    rng = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(count):
        yield rng, bodies.message(rng, rng.choice(bodies.CLASSES))


def check_bodies(count: int, seed: int) -> tuple[int, int]:
    """How many of the mutated bodies were taken, and how many refused."""
    taken = refused = 0
    for rng, message in drawn(count, seed):
        cls = type(message)
        text = bodies.mutated(rng, bodies.body(rng, message))
        plain = outcome(parse_plain, cls, text)
        assert outcome(parse_fast, cls, text) == plain, (cls, text)
        taken += isinstance(plain, Message)
        refused += not isinstance(plain, Message)
    return taken, refused


def test_any_message_is_rendered_alike_and_comes_back() -> None:
    for _, message in drawn(400, SEED):
        rendered = render_plain(message)
        assert render_fast(message) == rendered
        assert parse_plain(type(message), rendered) == message
        assert parse_fast(type(message), rendered) == message
        assert wire.decode(type(message), wire.encode(message)) == message


def test_bodies_as_clients_write_them_are_read_alike() -> None:
    for rng, message in drawn(400, SEED + 1):
        text = bodies.body(rng, message)
        assert parse_plain(type(message), text) == message, text
        assert parse_fast(type(message), text) == message, text


def test_bodies_with_something_wrong_are_read_or_refused_alike() -> None:
    taken, refused = check_bodies(1500, SEED + 2)
    assert taken > 200
    assert refused > 600


@pytest.mark.slow
def test_a_hundred_thousand_of_them() -> None:
    assert sum(check_bodies(100_000, SEED + 3)) == 100_000


NAMES = sorted({name for cls in bodies.CLASSES for field in fields_of(cls) for name in (field.name, field.json_name)})
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(ODD)
SHAPES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=5,
)


@given(st.sampled_from(bodies.CLASSES), st.dictionaries(st.sampled_from(NAMES), SHAPES, max_size=4))
def test_any_shape_under_any_name_is_read_or_refused_alike(cls: type[Message], shape: dict[str, object]) -> None:
    text = json.dumps(shape).encode()
    assert outcome(parse_fast, cls, text) == outcome(parse_plain, cls, text)


def test_the_fast_form_reads_the_usual_bodies_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be equal to the plain form because it is the plain form."""

    def never(*_: object) -> None:
        raise AssertionError("asked the plain form")

    monkeypatch.setattr("server.v3.fast_json.parse_plain", never)
    assert parse_fast(rpc.PutRequest, b'{"key":"a2V5","value":"dmFsdWU=","lease":"7"}').lease == 7
    assert parse_fast(rpc.RangeRequest, b'{"key": "a2V5", "range_end": "", "limit": 3}').limit == 3
    txn = parse_fast(
        rpc.TxnRequest, b'{"compare":[{"target":"MOD","mod_revision":"0"}],"success":[{"request_put":{}}]}'
    )
    assert txn.compare[0].mod_revision == 0
    assert txn.success[0].request_put == rpc.PutRequest()


def test_minus_zero_is_no_unsigned_number() -> None:
    """Go's ParseUint refuses it, and Python's reader makes 0 of it."""
    for text, signed in ((b'{"ID":-0}', rpc.LeaseRevokeRequest()), (b'{"ID":"-0"}', rpc.LeaseRevokeRequest())):
        assert outcome(parse_fast, rpc.LeaseRevokeRequest, text) == signed
        refused = (3, "json: cannot unmarshal number -0 into Go value of type uint64")
        assert outcome(parse_fast, rpc.MemberRemoveRequest, text) == refused
        assert outcome(parse_plain, rpc.MemberRemoveRequest, text) == refused


def test_base64_is_read_alike_with_padding_wherever_it_may_be() -> None:
    """Python's strict mode isn't: it takes "AAAA==". All texts of up to nine letters and signs of padding."""
    for length in range(10):
        for letters in itertools.product("A=", repeat=length):
            text = f'{{"key":"{"".join(letters)}"}}'.encode()
            assert outcome(parse_fast, rpc.PutRequest, text) == outcome(parse_plain, rpc.PutRequest, text), text


def test_deep_nesting_is_refused_and_never_ends_a_thread() -> None:
    """A reader that calls itself would run out of stack, and so would Python's own."""
    for depth in (63, 64, 65, 5_000, 20_000):
        txn = b'{"success":[{"request_txn":' * depth + b"{}" + b"}]}" * depth
        array = b'{"unknown":' + b"[" * depth + b"]" * depth + b"}"
        for text in (txn, array, txn[: len(txn) // 2], array[: len(array) // 2]):
            assert outcome(parse_fast, rpc.TxnRequest, text) == outcome(parse_plain, rpc.TxnRequest, text)

    def nested(depth: int) -> bytes:
        return b'{"success":[{"request_txn":' * depth + b"{}" + b"}]}" * depth

    levels = MESSAGE_DEPTH_MAX // 2  # each is two messages: the operation, and the transaction in it
    assert isinstance(outcome(parse_fast, rpc.TxnRequest, nested(levels - 1)), rpc.TxnRequest)
    too_deep = (3, f"messages nest deeper than {MESSAGE_DEPTH_MAX} levels")
    assert outcome(parse_fast, rpc.TxnRequest, nested(levels)) == too_deep
    assert outcome(parse_plain, rpc.TxnRequest, array) == (3, "invalid character '[' exceeded max depth")
    inner = b"[" * 10_000 + b"]" * 10_000  # one more with the outer object: an empty one counts, too
    assert outcome(parse_plain, rpc.TxnRequest, b'{"unknown":' + inner + b"}") == (
        3,
        "invalid character '[' exceeded max depth",
    )
    assert outcome(parse_plain, rpc.TxnRequest, b'{"unknown":' + b"[" * 9_999 + b"]" * 9_999 + b"}") == rpc.TxnRequest()

"""Bodies of streams, in whatever pieces they arrive."""

from __future__ import annotations

import random

import pytest

from server.v3 import rpc
from server.v3.documents import Documents
from server.v3.status import Status
from tests.conftest import SEED
from tests.server.v3 import bodies


def read(body: bytes, pieces: list[int]) -> tuple[list[rpc.WatchRequest], tuple[int, str] | None]:
    """The messages of a body that arrives cut at these offsets, and what ends it."""
    documents = Documents(rpc.WatchRequest)
    found: list[rpc.WatchRequest] = []
    try:
        for start, stop in zip([0, *pieces], [*pieces, len(body)]):
            documents.feed(body[start:stop])
            while (message := documents.next()) is not None:
                found.append(message)
        documents.end()
        while (message := documents.next()) is not None:
            found.append(message)
    except Status as wrong:
        return found, (wrong.code, wrong.sentence)
    return found, None


def test_messages_are_the_same_however_the_body_is_cut() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for _ in range(60):
        sent = [bodies.message(rng, rpc.WatchRequest) for _ in range(rng.choice([0, 1, 2, 5]))]
        body = rng.choice([b"", b" \n"]).join([bodies.body(rng, each) for each in sent])
        pieces = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice([0, 1, 3, 40])))
        assert read(body, pieces) == (sent, None), (body, pieces)
        assert read(body, list(range(len(body)))) == (sent, None), body


def test_a_message_is_there_with_its_last_brace() -> None:
    documents = Documents(rpc.WatchRequest)
    documents.feed(b'{"cancel_request":{"watch_id":"7"}')
    assert documents.next() is None
    documents.feed(b"}{")
    assert documents.next() == rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=7))
    assert documents.next() is None


def test_braces_and_quotes_within_a_string_are_text() -> None:
    sent = b'{"unknown":"\\"}{","cancel_request":{"watch_id":1}}' * 2
    assert read(sent, list(range(len(sent)))) == (
        [rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=1))] * 2,
        None,
    )


CREATED = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"foo"))
CREATE = b'{"create_request":{"key":"Zm9v"}}'


@pytest.mark.parametrize(
    ("body", "messages", "end"),
    [
        (b"", [], None),
        (b" ", [], None),
        (b"null", [rpc.WatchRequest()], None),
        (b"null {}", [rpc.WatchRequest(), rpc.WatchRequest()], None),
        (b'{"create_request":', [], (2, "unexpected EOF")),
        (CREATE + b" nonsense", [CREATED], (2, "invalid character 'o' in literal null (expecting 'u')")),
        (CREATE + b'{"a":1,}', [CREATED], (2, "invalid character '}' looking for beginning of object key string")),
        (b'{"create_request":5}' + CREATE, [], (2, "json: cannot unmarshal number into Go value of type map[string]json.RawMessage")),
        (b"[{]}", [], (2, "invalid character ']' looking for beginning of object key string")),
    ],
)  # fmt: skip
def test_what_ends_a_stream(body: bytes, messages: list[rpc.WatchRequest], end: tuple[int, str] | None) -> None:
    """Transcripts watch-no-body, watch-bad-json and watch-bad-json-later: grpc-gateway says it without a code, so code 2."""
    assert read(body, []) == (messages, end)
    assert read(body, list(range(len(body)))) == (messages, end)


def test_what_cannot_become_json_is_an_error_before_the_body_ends() -> None:
    documents = Documents(rpc.WatchRequest)
    documents.feed(b'{"create_request": nonsense')
    for _ in range(2):
        with pytest.raises(Status, match="invalid character 'o' in literal null"):
            documents.next()


def test_one_object_is_bounded_and_reading_it_in_small_pieces_takes_no_longer() -> None:
    """It is read as JSON each time it has doubled: 1,000 pieces are 11 readings."""
    documents = Documents(rpc.WatchRequest, most_bytes=10_000)
    for _ in range(100):
        documents.feed(b'{"create_request":{}}')
        assert documents.next() == rpc.WatchRequest(create_request=rpc.WatchCreateRequest())
    documents.feed(b'{"create_request":{"key":"')
    for _ in range(999):
        documents.feed(b"Zm9vZm9v")
        assert documents.next() is None
    for _ in range(300):
        documents.feed(b"Zm9vZm9v")
    with pytest.raises(Status, match=r"larger than max \(\d+ vs. 10000\)") as refused:
        documents.next()
    assert refused.value.code == 8

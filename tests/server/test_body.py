"""Bodies as they arrive: whatever the pieces, the bytes are the same, and what is not a body is refused."""

import itertools
import random

import pytest

from server.body import LINE_BYTES_MAX, TRAILER_BYTES_MAX, Body, body_of
from server.request import BadRequest


def read(body: Body, pieces: list[bytes]) -> bytes:
    return b"".join(body.feed(piece) for piece in pieces)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    at = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(12)))})
    return [data[a:b] for a, b in itertools.pairwise(at)]


CHUNKED = b'4\r\nWiki\r\n5;a=b;c="d"\r\npedia\r\nE \r\n in\r\n\r\nchunks.\r\n0\r\nExpires: never\r\nB:\r\n\r\n'


def test_a_chunked_body_is_the_same_however_it_is_cut():
    rng = random.Random(1)
    for _ in range(300):
        body = body_of(None, chunked=True)
        assert read(body, cut(CHUNKED + b"GET / HTTP/1.1", rng)) == b"Wikipedia in\r\n\r\nchunks."
        assert body.over
        assert body.rest == b"GET / HTTP/1.1"


def test_it_is_over_with_its_last_byte_and_not_before():
    body = body_of(None, chunked=True)
    for at in range(len(CHUNKED)):
        assert not body.over
        body.feed(CHUNKED[at : at + 1])
    assert body.over
    assert body.rest == b""


def test_a_body_of_a_length_leaves_the_rest():
    rng = random.Random(2)
    for _ in range(50):
        body = body_of(7, chunked=False)
        assert read(body, cut(b"0123456789abc", rng)) == b"0123456"
        assert (body.over, body.rest) == (True, b"789abc")
    assert body_of(0, chunked=False).over
    assert body_of(None, chunked=False).over


@pytest.mark.parametrize("bad", [
    b"\r\n", b" 4\r\nWiki", b"+4\r\nWiki", b"0x4\r\nWiki", b"-1\r\n", b"4_0\r\n", b"g\r\n", b"123456789\r\n", b"4\nWiki", b"4;a\x00\r\n",
    b"4\r\nWiki4\r\n", b"4\r\nWiki\r4", b"4\r\nWiki\n", b"0\r\nno colon\r\n", b"0\r\n folded: 1\r\n", b"0\r\n\n",
    b"1;" + b"a" * LINE_BYTES_MAX + b"\r\n", b"0\r\n" + b"a: b\r\n" * TRAILER_BYTES_MAX, b"0\r\nA: " + b"b" * TRAILER_BYTES_MAX,
])  # fmt: skip
def test_what_is_no_chunk_is_refused_however_it_is_cut(bad):
    for pieces in ([bad], [bad[at : at + 1] for at in range(len(bad))]):
        with pytest.raises(BadRequest) as refused:
            read(body_of(None, chunked=True), pieces)
        assert refused.value.status == 400


def test_many_small_chunks_cost_what_their_bytes_cost():
    body = body_of(None, chunked=True)
    assert read(body, [b"1\r\na\r\n" * 20_000] * 10) == b"a" * 200_000

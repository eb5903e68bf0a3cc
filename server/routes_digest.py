"""The routes of a comparison of all nodes' contents (server/marked_views.py, server/compare.py).

    POST    /_/digest                     200 {"index": 17}: every node keeps a view of its state at that entry
    GET     /_/digest   ?index=17         200, a line for each block of 1,000 keys: its last key, and a hash
    GET     /_/digest   ?index=17&after=  200, a line for each key that follows: the key, and a hash of its value

Keys are those of the engine: the users' begin with "k", ours with "m". 503 if the entry isn't applied here yet, 410 if
there is no view of it any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from server.answers import JSON, NDJSON, Answer, Options, Serving, error_answer
from server.marked_views import NotMarked, NotYet, blocks_of, hashed_pairs
from server.ndjson import lines_of
from server.sessions import MARK

__all__ = ["answer_digest", "mark"]


def mark(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """POST /_/digest: the index of the mark. Marking twice does no harm: a node keeps the view of the newest one."""
    return Answer(200, b'{"index":%d}\n' % server.node.propose([MARK]), JSON)


def answer_digest(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """GET /_/digest: what the view of the mark has, in hashes."""
    index = options.get("index", 0)
    blocks = _blocks(server, index, options.get("after"))
    try:
        next(blocks)  # what fails at once fails here, and can still be said
    except NotYet:
        return error_answer(503, f"Entry {index:,} is not applied here yet.", b"Retry-After: 1\r\n")
    except NotMarked:
        return error_answer(
            410,
            f"This node has no view of entry {index:,} (it expired, it came by a snapshot, or another comparison has "
            "begun): begin again.",
        )
    return Answer(200, blocks, NDJSON)


def _blocks(server: Serving, index: int, after: bytes | None) -> Iterator[bytes]:
    with server.node.machine.marked(index) as view:
        yield b""
        yield from lines_of(blocks_of(view) if after is None else hashed_pairs(view, after))

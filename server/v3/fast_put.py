"""The fast form of `/v3/kv/put` with a key, a value and nothing else: from its body to its entry, and on to its answer.

    {"key": "aGVsbG8=", "value": "d29ybGQ="} ──▶ entry_of_body ──▶ the log ──▶ put_in_entry ──▶ key, value
                                                                                                    │ server/statemachine_fast.py
    {"header": {"cluster_id": …, "revision": …}} ◀── render_put ◀── PutResponse ◀───────────────────┘

Such a put goes through no message of its own, no table of fields, and no undo. What says more (a lease, prev_kv, a user),
or is in doubt, goes the plain way: each function says so with None. Entries and answers have the bytes of the plain form
(tests/server/v3/test_fast_put.py). Only the node's loop and FastMachine ask here, and neither does under METCD_PLAIN=1.

Measured with 64 clients beside other work (tests/bench/http_load.py --v3): 112 µs of CPU time of all nodes for a put in
place of 161.
"""

from __future__ import annotations

import json
from functools import lru_cache

from engines.coding import DecodeError, get_varint64, put_varint
from server.limits import KEY_BYTES_MAX
from server.v3.fast_json import base64_bytes
from server.v3.rpc import PutResponse
from server.v3.rpc_raft import entry_head

__all__ = ["entry_of_body", "put_in_entry", "render_put"]

_scan = json.JSONDecoder().raw_decode
_HEAD = entry_head("put")  # of nobody's puts
_KEY, _VALUE = b"\x0a", b"\x12"  # the tags of a PutRequest's fields


def entry_of_body(body: bytes) -> bytes | None:
    """The entry that `unary.entry_of` makes of the body of nobody's put; None if it isn't as simple as that. O(bytes)."""
    if b"\\" in body:
        return None
    try:
        found, _ = _scan(body.decode(), 0)
        if type(found) is not dict or len(found) != 2:
            return None
        key, value = base64_bytes(found.get("key")), base64_bytes(found.get("value"))
    except (ValueError, RecursionError):  # among them JSONDecodeError, binascii.Error, UnicodeDecodeError
        return None
    if not key or not value or len(key) > KEY_BYTES_MAX:
        return None
    data = b"".join((_KEY, put_varint(len(key)), key, _VALUE, put_varint(len(value)), value))
    return b"".join((_HEAD, put_varint(len(data)), data))


def put_in_entry(data: bytes) -> tuple[bytes, bytes] | None:
    """The key and the value of an entry that `entry_of_body` has made; None for any other. O(bytes)."""
    if not data.startswith(_HEAD):
        return None
    try:
        size, at = get_varint64(data, len(_HEAD))
        if at + size != len(data) or data[at : at + 1] != _KEY:
            return None
        size, at = get_varint64(data, at + 1)
        value_at = at + size
        if data[value_at : value_at + 1] != _VALUE:
            return None
        size, begin = get_varint64(data, value_at + 1)
    except DecodeError:
        return None
    return (data[at:value_at], data[begin:]) if begin + size == len(data) else None


def render_put(response: PutResponse) -> bytes | None:
    """The JSON of a response with nothing but a header that says everything; None for any other. O(1)."""
    header = response.header
    if header is None or response.prev_kv is not None or not header.revision:
        return None
    begin, end = _around_revision(header.cluster_id, header.member_id, header.raft_term)
    return b"%b%d%b" % (begin, header.revision, end) if begin else None


@lru_cache(maxsize=64)
def _around_revision(cluster_id: int, member_id: int, raft_term: int) -> tuple[bytes, bytes]:
    """What stands before and after the revision in a header; b"" if one of the numbers is 0, and so left out."""
    if not (cluster_id and member_id and raft_term):
        return b"", b""
    begin = b'{"header":{"cluster_id":"%d","member_id":"%d","revision":"' % (cluster_id, member_id)
    return begin, b'","raft_term":"%d"}}' % raft_term

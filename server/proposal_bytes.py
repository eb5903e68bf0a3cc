"""The bytes of a proposal: what one client, or one node, wants to be done as one.

A proposal is a list of puts and deletes, or one request. Its bytes are the data of a Raft entry, the same on every node:

    0   8  origin           who proposed it: a number that a node draws when it starts
    8   8  sequence         which of its proposals
   16   4  count            operations; for each of them
    …   1  kind             0 delete, 1 put; 2 of which session it is, the first operation or none; 3 a request, alone;
                            4 who asks, before the puts and deletes or nowhere
    …   4  key size         then the key
    …   4  value size       a put only; then the value

and of kind 2 (server/sessions.py):

    …   8  session          0 if this opens one or is a mark; then it is the only operation
    …   8  number           of the request in its session, from 1; 0 if this opens one; 1 for a mark

and of kind 3 (server/evaluation.py):

    …   4  size             then the request

and of kind 4 (server/principal.py), only while authentication is on:

    …   8  auth revision
    …   4  size             then the user's name, in UTF-8

Decoders believe no length. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from engines.coding import DecodeError
from engines.kvstore import Operation
from server.evaluation import Request
from server.principal import Principal
from server.sessions import MARK, OPENS, Serial

__all__ = ["Proposal", "decode_proposal", "decode_put", "decode_request", "encode_proposal", "kind_of_proposal"]

_HEADER = struct.Struct("<QQI")
_DELETE = struct.Struct("<BI")
_PUT = struct.Struct("<BII")
_ONE_PUT = struct.Struct("<QQIBII")  # the header, and the beginning of a put
_ONE_REQUEST = struct.Struct("<QQIBI")  # the same of a request
_SERIAL = struct.Struct("<BQQ")
_REQUEST = struct.Struct("<BI")
_PRINCIPAL = struct.Struct("<BQI")


class Proposal(NamedTuple):
    """What `decode_proposal` finds in an entry."""

    origin: int
    sequence: int
    # a Serial comes first or not at all, a Principal after it or first, a Request alone
    operations: Sequence[Operation | Serial | Principal | Request]


def encode_proposal(
    origin: int, sequence: int, operations: Sequence[Operation | Serial | Principal | Request]
) -> bytes:
    """The bytes of a proposal. O(bytes). Requires: keys and values within this module's limits, a Serial only in front, a
    Principal only before the puts and deletes, a Request alone."""
    parts = [_HEADER.pack(origin, sequence, len(operations))]
    for operation in operations:
        if isinstance(operation, Serial):
            parts.append(_SERIAL.pack(2, *operation))
            continue
        if isinstance(operation, Request):
            parts += (_REQUEST.pack(3, len(operation.data)), operation.data)
            continue
        if isinstance(operation, Principal):
            name = operation.username.encode()
            parts += (_PRINCIPAL.pack(4, operation.auth_revision, len(name)), name)
            continue
        key, value = operation
        if value is None:
            parts += (_DELETE.pack(0, len(key)), key)
        else:
            parts += (_PUT.pack(1, len(key), len(value)), key, value)
    return b"".join(parts)


def decode_proposal(data: bytes) -> Proposal:
    """The proposal that `data`, all of it, encodes. Raises DecodeError; believes no length. O(bytes)."""
    size = len(data)
    if size < _HEADER.size:
        raise DecodeError(f"a proposal needs at least {_HEADER.size} bytes, and there are {size}")
    origin, sequence, count = _HEADER.unpack_from(data)
    at = _HEADER.size
    operations: list[Operation | Serial | Principal | Request] = []
    try:
        for number in range(count):
            if data[at] == 1:
                _, key_size, value_size = _PUT.unpack_from(data, at)
                key_at = at + _PUT.size
                value_at = key_at + key_size
                at = value_at + value_size
                operations.append((data[key_at:value_at], data[value_at:at]))
            elif data[at] == 0:
                key_at = at + _DELETE.size
                at = key_at + _DELETE.unpack_from(data, at)[1]
                operations.append((data[key_at:at], None))
            elif data[at] == 2 and not number:
                operations.append(_serial(data, at, count))
                at += _SERIAL.size
            elif data[at] == 3 and count == 1:
                request_at = at + _REQUEST.size
                at = request_at + _REQUEST.unpack_from(data, at)[1]
                operations.append(Request(data[request_at:at]))
            elif data[at] == 4 and all(isinstance(each, Serial) for each in operations):
                name_at = at + _PRINCIPAL.size
                _, auth_revision, size_of_name = _PRINCIPAL.unpack_from(data, at)
                at = name_at + size_of_name
                operations.append(Principal(data[name_at:at].decode(), auth_revision))
            else:
                raise DecodeError(
                    "an operation's kind is 0 or 1 (2 only in front, 3 only alone, 4 only before the others), and at byte "
                    f"{at} it is {data[at]}"
                )
            if at > size:
                raise DecodeError(f"an operation ends at byte {at}, but the proposal has {size}")
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise DecodeError(f"operation {len(operations)} of {count} begins at byte {at} of {size}: {error}") from None
    if at != size:
        raise DecodeError(f"the last operation ends at byte {at}, but the proposal has {size}")
    return Proposal(origin, sequence, operations)


def decode_put(data: bytes) -> tuple[int, int, bytes, bytes] | None:
    """Origin, sequence, key and value of a proposal that puts one key, and nothing else; None for any other. O(bytes)."""
    if len(data) < _ONE_PUT.size:
        return None
    origin, sequence, count, kind, key_size, value_size = _ONE_PUT.unpack_from(data)
    value_at = _ONE_PUT.size + key_size
    if count != 1 or kind != 1 or value_at + value_size != len(data):
        return None
    return origin, sequence, data[_ONE_PUT.size : value_at], data[value_at:]


def decode_request(data: bytes) -> tuple[int, int, bytes] | None:
    """Origin, sequence and bytes of a proposal that is a request; None for any other. O(bytes)."""
    if len(data) < _ONE_REQUEST.size:
        return None
    origin, sequence, count, kind, size = _ONE_REQUEST.unpack_from(data)
    if count != 1 or kind != 3 or _ONE_REQUEST.size + size != len(data):
        return None
    return origin, sequence, data[_ONE_REQUEST.size :]


def kind_of_proposal(data: bytes) -> str:
    """What a proposal does, in a word for people: "put", "delete", "batch", or "request" for one of the v3 interface;
    "session" opens one, "mark" asks for a view.

    "unreadable" if its first operation can't be read; the others aren't looked at. O(1).
    """
    try:
        count, at = _HEADER.unpack_from(data)[2], _HEADER.size
        if count and data[at] == 2:
            serial = _serial(data, at, count)
            if serial in (OPENS, MARK):
                return "session" if serial == OPENS else "mark"
            count, at = count - 1, at + _SERIAL.size
        if count and data[at] == 4:
            count, at = count - 1, at + _PRINCIPAL.size + _PRINCIPAL.unpack_from(data, at)[2]
        return "batch" if count != 1 else ("delete", "put", "", "request")[data[at]] or "unreadable"
    except (struct.error, IndexError, DecodeError):
        return "unreadable"


def _serial(data: bytes, at: int, count: int) -> Serial:
    """The Serial at the front of a proposal with `count` operations. Raises DecodeError, struct.error."""
    _, session, number = _SERIAL.unpack_from(data, at)
    serial = Serial(session, number)
    if serial in (OPENS, MARK) and count != 1:
        raise DecodeError(f"what opens a session, or is a mark, does nothing else, and this has {count} operations")
    if not (session and number) and serial not in (OPENS, MARK):
        raise DecodeError(f"sessions and their requests are counted from 1, and this is {session}/{number}")
    return serial

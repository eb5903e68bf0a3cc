"""Protobuf's bytes as the textbook has them, for the messages of server/v3/rpc.py: what a proposal carries through Raft.

    field      tag      varint: number << 3 | type
               type 0   varint               int64 and enum (two's complement in 64 bits), uint64, uint32, bool
               type 2   varint n, n bytes    bytes, string, message, a packed list of varints
               type 1   8 bytes              no field of etcd's; skipped
               type 5   4 bytes              no field of etcd's; skipped

1. Fields are written in the order of their declaration, those with their default not at all; a member of a oneof is
   written even if it is 0. One message has one encoding here, on every node.
2. The decoder takes what any encoder may send: fields in any order, one twice (the last one counts, messages are merged,
   lists go on), lists of varints packed or not, fields that it doesn't know.
3. It believes no length, and nothing nests deeper than MESSAGE_DEPTH_MAX: else DecodeError.

Left out: groups (types 3 and 4, which proto3 doesn't have): DecodeError.
Follows protobuf's encoding as of proto3, which etcd's own raft_internal.proto has.
"""

from __future__ import annotations

from typing import Any, TypeVar

from engines.coding import DecodeError, get_varint64, put_varint
from server.v3.messages import MESSAGE_DEPTH_MAX, Field, Kind, Message, fields_of

__all__ = ["decode_plain", "encode_plain"]

M = TypeVar("M", bound=Message)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_64_BITS = (1 << 64) - 1
_SIZED = (Kind.BYTES, Kind.STRING, Kind.MESSAGE)


def encode_plain(message: Message) -> bytes:
    """The message in protobuf. Requires: each value is of its field's type; who filled the message guarantees it.

    O(bytes).
    """
    parts: list[bytes] = []
    for field, tag in _table(type(message))[0]:
        value = getattr(message, field.name)
        if field.repeated:
            _put_list(parts, field, tag, value)
        elif value is not None and (value or field.oneof or field.kind is Kind.MESSAGE):
            parts += (tag, _encoded(field.kind, value))
    return b"".join(parts)


def _put_list(parts: list[bytes], field: Field, tag: bytes, values: list[Any]) -> None:
    """Lists of varints are packed into one field, as proto3 does; others are a field for each value."""
    if field.kind in _SIZED:
        for value in values:
            parts += (tag, _encoded(field.kind, value))
    elif values:
        packed = b"".join([_encoded(field.kind, value) for value in values])
        parts += (tag, put_varint(len(packed)), packed)


def _encoded(kind: Kind, value: Any) -> bytes:
    if kind is Kind.MESSAGE:
        data = encode_plain(value)
    elif kind is Kind.STRING:
        data = value.encode()
    elif kind is Kind.BYTES:
        data = value
    else:
        return put_varint(int(value) & _64_BITS)
    return put_varint(len(data)) + data


def decode_plain(cls: type[M], data: bytes) -> M:
    """The message of this class in `data`, all of it. Raises DecodeError. O(bytes)."""
    message = cls()
    _fill(message, data, MESSAGE_DEPTH_MAX + 1)
    return message


def _fill(message: Message, data: bytes, depth: int) -> None:
    """Sets the fields that `data` has; those that it hasn't stay."""
    if depth == 0:
        raise DecodeError(f"messages nest deeper than {MESSAGE_DEPTH_MAX} levels")
    known = _table(type(message))[1]
    at = 0
    while at < len(data):
        tag, at = get_varint64(data, at)
        value, at = _get_value(data, at, tag & 7)
        field = known.get(tag >> 3)
        if field is None:
            if not 0 < tag >> 3 < 1 << 29:
                raise DecodeError(f"a field can't have the number {tag >> 3}")
        else:
            _set(message, field, value, depth)


def _get_value(data: bytes, at: int, wire_type: int) -> tuple[int | bytes, int]:
    """The value that begins at `at`, and the offset after it. A varint is an int, all else the bytes."""
    if wire_type == _VARINT:
        return get_varint64(data, at)
    if wire_type == _BYTES:
        size, at = get_varint64(data, at)
    elif wire_type in (_FIXED32, _FIXED64):
        size = 4 if wire_type == _FIXED32 else 8
    else:
        raise DecodeError(f"a field has the type {wire_type}, which proto3 doesn't have")
    if size > len(data) - at:
        raise DecodeError(f"a field of {size} bytes begins at byte {at}, but there are {len(data)}")
    return data[at : at + size], at + size


def _set(message: Message, field: Field, value: int | bytes, depth: int) -> None:
    """Sets the field; in a oneof, unsets the others."""
    if field.repeated:
        values = getattr(message, field.name)
        if isinstance(value, bytes) and field.kind not in _SIZED:
            values += _unpacked(field.kind, value)
        else:
            values.append(_value(field, None, value, depth))
        return
    decoded = _value(field, getattr(message, field.name), value, depth)
    if field.oneof:
        for other in fields_of(type(message)):
            if other.oneof == field.oneof:
                setattr(message, other.name, None)
    setattr(message, field.name, decoded)


def _unpacked(kind: Kind, packed: bytes) -> list[int]:
    values, at = [], 0
    while at < len(packed):
        value, at = get_varint64(packed, at)
        values.append(_number(kind, value))
    return values


def _value(field: Field, present: Message | None, value: int | bytes, depth: int) -> Any:
    """The field's value; `present` is the message that it had, into which another one is merged."""
    if isinstance(value, int):
        if field.kind in _SIZED:
            raise DecodeError(f"field {field.name} is {field.kind.value}, but comes as a varint")
        return _number(field.kind, value)
    if field.kind is Kind.BYTES:
        return value
    if field.kind is Kind.STRING:
        try:
            return value.decode()
        except UnicodeDecodeError as wrong:
            raise DecodeError(f"field {field.name} isn't UTF-8: {wrong}") from wrong
    if field.kind is not Kind.MESSAGE:
        raise DecodeError(f"field {field.name} is {field.kind.value}, but comes as {len(value)} bytes")
    assert field.of is not None
    inner = field.of() if present is None else present
    _fill(inner, value, depth - 1)
    return inner


def _number(kind: Kind, value: int) -> int:
    """What the 64 bits of a varint mean for a kind; protobuf cuts off what is too long for it."""
    if kind is Kind.BOOL:
        return value != 0
    if kind is Kind.INT64:
        return value - (1 << 64) if value >> 63 else value
    if kind is Kind.ENUM:
        value &= 0xFFFF_FFFF
        return value - (1 << 32) if value >> 31 else value
    return value & 0xFFFF_FFFF if kind is Kind.UINT32 else value


_TABLES: dict[type[Message], tuple[list[tuple[Field, bytes]], dict[int, Field]]] = {}


def _table(cls: type[Message]) -> tuple[list[tuple[Field, bytes]], dict[int, Field]]:
    """The fields with their encoded tags, in order, and the fields by their numbers. Kept."""
    found = _TABLES.get(cls)
    if found is None:
        known = fields_of(cls)
        tagged = [(field, put_varint(field.number << 3 | (_BYTES if _is_sized(field) else _VARINT))) for field in known]
        found = _TABLES[cls] = (tagged, {field.number: field for field in known})
    return found


def _is_sized(field: Field) -> bool:
    return field.repeated or field.kind in _SIZED

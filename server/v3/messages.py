"""How a message of etcd's API is declared here, and what its declaration says: the one table for both of its encodings.

    @dataclass(slots=True)
    class PutRequest(Message):                  message PutRequest {
        key: bytes = bytes_(1)                      bytes key = 1;
        lease: int = int64(3)                       int64 lease = 3;
        ...                                         ...  }

`fields_of(PutRequest)` is that as a tuple of `Field`, in the order of the declaration, which is the order in which etcd's
gateway renders. server/v3/wire.py and server/v3/jsonpb.py read nothing else.

1. A field that nobody set has proto3's default: 0, False, "", b"", []; an absent message is None.
2. A member of a `oneof` is None when it is not the one that is set; a scalar in it may be set to 0.
3. An enum's field is an int: a newer client may send a number that has no name. Its names are an IntEnum within the
   message that declares it, so that `__qualname__` is the name that etcd's sentences have.
4. Messages are plain objects, mutable and not locked. One thread fills one, and hands it on.

Left out, because etcd's API has none of them: maps, floats, fixed-width integers, groups, extensions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum, IntEnum
from typing import Any, get_args, get_type_hints

__all__ = [
    "MESSAGE_DEPTH_MAX",
    "Field",
    "Kind",
    "Message",
    "bool_",
    "bytes_",
    "enum",
    "fields_of",
    "full_name",
    "int64",
    "message",
    "repeated",
    "string",
    "uint32",
    "uint64",
]

# Messages in messages. Only transactions nest in themselves, two levels each; etcd has no limit but Go's 10,000 levels of
# JSON, and a decoder that calls itself needs one. InternalRaftRequest is one more level than what a client sent.
MESSAGE_DEPTH_MAX = 64


class Kind(Enum):
    """The types of proto3 that etcd's API uses."""

    INT64 = "int64"
    UINT64 = "uint64"
    UINT32 = "uint32"
    BOOL = "bool"
    BYTES = "bytes"
    STRING = "string"
    ENUM = "enum"
    MESSAGE = "message"


class Message:
    """What all messages are: dataclasses whose fields were made by the functions below."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    name, json_name: as the .proto has it, and in camel case; requests may use either. number: its tag. oneof: the name
    of its group, or "". of: the class of a message, the IntEnum of an enum, else None.
    """

    name: str
    json_name: str
    number: int
    kind: Kind
    repeated: bool
    oneof: str
    of: type[Any] | None


_DEFAULTS: dict[Kind, Any] = {
    Kind.INT64: 0,
    Kind.UINT64: 0,
    Kind.UINT32: 0,
    Kind.BOOL: False,
    Kind.BYTES: b"",
    Kind.STRING: "",
    Kind.ENUM: 0,
    Kind.MESSAGE: None,
}


def _field(number: int, kind: Kind, oneof: str = "", of: type[IntEnum] | None = None) -> Any:
    default = None if oneof else _DEFAULTS[kind]
    return field(default=default, metadata={"number": number, "kind": kind, "oneof": oneof, "of": of})


def int64(number: int, oneof: str = "") -> Any:
    """A field of 64 bits with a sign; a string of digits in JSON."""
    return _field(number, Kind.INT64, oneof)


def uint64(number: int) -> Any:
    """A field of 64 bits without a sign; a string of digits in JSON."""
    return _field(number, Kind.UINT64)


def uint32(number: int) -> Any:
    """A field of 32 bits without a sign; a number in JSON."""
    return _field(number, Kind.UINT32)


def bool_(number: int) -> Any:
    """A truth value."""
    return _field(number, Kind.BOOL)


def bytes_(number: int, oneof: str = "") -> Any:
    """Bytes; base64 in JSON."""
    return _field(number, Kind.BYTES, oneof)


def string(number: int) -> Any:
    """A text, in UTF-8."""
    return _field(number, Kind.STRING)


def enum(number: int, of: type[IntEnum]) -> Any:
    """A number that may have a name in `of`; the name in JSON."""
    return _field(number, Kind.ENUM, of=of)


def message(number: int, oneof: str = "") -> Any:
    """A message of the class in the annotation, or None."""
    return _field(number, Kind.MESSAGE, oneof)


def repeated(number: int, kind: Kind = Kind.MESSAGE, of: type[IntEnum] | None = None) -> Any:
    """A list of values of a kind; of messages, those of the class in the annotation."""
    metadata = {"number": number, "kind": kind, "oneof": "", "of": of, "repeated": True}
    return field(default_factory=list, metadata=metadata)


_FIELDS: dict[type[Message], tuple[Field, ...]] = {}


def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """The fields of a message's class, in the order of their declaration. Kept; the first call resolves annotations."""
    found = _FIELDS.get(cls)
    if found is None:
        found = _FIELDS[cls] = tuple(_fields_of(cls))
    return found


def _fields_of(cls: type[Any]) -> Iterator[Field]:
    hints = get_type_hints(cls)
    for each in fields(cls):
        kind: Kind = each.metadata["kind"]
        yield Field(
            name=each.name,
            json_name=_camel_case(each.name),
            number=each.metadata["number"],
            kind=kind,
            repeated=each.metadata.get("repeated", False),
            oneof=each.metadata["oneof"],
            of=_class_in(hints[each.name]) if kind is Kind.MESSAGE else each.metadata["of"],
        )


def full_name(of: type[Any]) -> str:
    """The name that etcd's sentences have for a message or an enum: `etcdserverpb.RangeRequest.SortOrder`."""
    return f"{sys.modules[of.__module__].PACKAGE}.{of.__qualname__}"


def _class_in(hint: Any) -> type[Message]:
    """The message's class in `X | None` or `list[X]`."""
    found = [argument for argument in get_args(hint) if isinstance(argument, type) and issubclass(argument, Message)]
    assert len(found) == 1, hint
    return found[0]


def _camel_case(name: str) -> str:
    """protoc's json_name: underscores go, and a small letter after one becomes a capital: remaining_TTL, remainingTTL."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)

"""The JSON of etcd's gateway as the textbook has it: requests into messages, messages into answers.

                 a request may have                              an answer has
    bytes        base64 in a string, or an array of numbers      base64
    int64        an integer, or one in a string                  a string
    uint64       an integer, or one in a string                  a string
    uint32       an integer, or one in a string                  a number
    enum         a name or an integer                            the name, or a number that has none
    bool         true, false                                     true
    string       a string                                        a string
    message      an object                                       an object, its fields in the order of the .proto
    list         an array                                        an array

1. `null` is as good as nothing, for the whole body, too; a field that isn't known is passed over. A field has two names,
   `range_end` and `rangeEnd`; if both are there, the second one counts.
2. The fields of a message are looked at in the order of their declaration, and the first that is wrong is what the answer
   speaks of. Of a oneof's members the last one, in that order, counts.
3. What follows the first value of a body isn't looked at. Nothing at all is an empty message.
4. An answer leaves out what is zero, false or empty. A present message is never left out, nor is a oneof's member.
5. Nothing nests deeper than MESSAGE_DEPTH_MAX: else a sentence of our own.

Follows golang/protobuf 1.5's jsonpb, which grpc-gateway 1.16 calls with OrigName and AllowUnknownFields.
"""

from __future__ import annotations

import binascii
import re
from enum import IntEnum
from typing import Any, TypeVar

from server.v3.gojson import Node, SyntaxError_, go_quoted, read, read_all, text_of
from server.v3.messages import MESSAGE_DEPTH_MAX, Field, Kind, Message, fields_of, full_name
from server.v3.status import Code, Status, quoted

__all__ = ["parse_plain", "render_plain"]

M = TypeVar("M", bound=Message)

_RANGES = {
    Kind.INT64: ("int64", -(1 << 63), (1 << 63) - 1),
    Kind.UINT64: ("uint64", 0, (1 << 64) - 1),
    Kind.UINT32: ("uint32", 0, (1 << 32) - 1),
    Kind.ENUM: ("protoreflect.EnumNumber", -(1 << 31), (1 << 31) - 1),
}
_NAMES_OF_KINDS = {"{": "object", "[": "array", '"': "string", "t": "bool", "f": "bool", "0": "number"}
_INTEGER = re.compile(rb"-?[0-9]+\Z")


def parse_plain(cls: type[M], body: bytes) -> M:
    """The message in a body. Raises Status of code 3 with etcd's sentence. O(bytes)."""
    try:
        node = read(body)
    except SyntaxError_ as wrong:
        raise _refused(str(wrong)) from None
    message = cls()
    if node is not None and node.kind != "n":
        _fill(message, body, node, MESSAGE_DEPTH_MAX)
    return message


def _refused(sentence: str) -> Status:
    return Status(Code.INVALID_ARGUMENT, sentence)


def _cannot(what: str, into: str) -> Status:
    return _refused(f"json: cannot unmarshal {what} into Go value of type {into}")


def _fill(message: Message, text: bytes, node: Node, depth: int) -> None:
    """Sets the fields that an object has."""
    if node.kind != "{":
        raise _cannot(_NAMES_OF_KINDS[node.kind], "map[string]json.RawMessage")
    if depth == 0:
        raise _refused(f"messages nest deeper than {MESSAGE_DEPTH_MAX} levels")
    for field in fields_of(type(message)):
        found = node.members.get(field.json_name) or node.members.get(field.name)
        if found is None or found.kind == "n":
            continue
        if field.oneof:
            for other in fields_of(type(message)):
                if other.oneof == field.oneof:
                    setattr(message, other.name, None)
        value = _list(field, text, found, depth) if field.repeated else _value(field, text, found, depth)
        setattr(message, field.name, value)


def _list(field: Field, text: bytes, node: Node, depth: int) -> list[Any]:
    if node.kind != "[":
        raise _cannot(_NAMES_OF_KINDS[node.kind], "[]json.RawMessage")
    return [_value(field, text, element, depth) for element in node.elements]


def _value(field: Field, text: bytes, node: Node, depth: int) -> Any:
    """One value of a field. A null, which stands in a list or in a string here, is the default."""
    kind = field.kind
    if kind is Kind.MESSAGE:
        assert field.of is not None
        inner = field.of()
        if node.kind != "n":
            _fill(inner, text, node, depth - 1)
        return inner
    if kind is Kind.BYTES:
        return _bytes(text, node)
    if kind is Kind.STRING:
        if node.kind not in '"n':
            raise _cannot(_NAMES_OF_KINDS[node.kind], "string")
        return text_of(text[node.start : node.end]) if node.kind == '"' else ""
    if kind is Kind.BOOL:
        if node.kind not in "tfn":
            raise _cannot(_NAMES_OF_KINDS[node.kind], "bool")
        return node.kind == "t"
    literal = text[node.start : node.end]
    if kind is Kind.ENUM and node.kind == '"':
        return _enum_by_name(field.of, literal)
    return _integer(kind, literal)


def _enum_by_name(of: type[Any] | None, literal: bytes) -> int:
    """The number of a name; what stands between the quotes is the name, without a look at its escapes."""
    assert of is not None
    try:
        return int(of[literal[1:-1].decode()])
    except (KeyError, UnicodeDecodeError):
        raise _refused(f"unknown value {go_quoted(literal)} for enum {full_name(of)}") from None


def _integer(kind: Kind, literal: bytes) -> int:
    """A number, or JSON in a string that is a number: etcd takes the quotes off, and reads again."""
    name, low, high = _RANGES[kind]
    if literal[:1] == b'"' and kind is not Kind.ENUM:
        literal = literal[1:-1]
    try:
        node = read_all(literal)
    except SyntaxError_ as wrong:
        raise _refused(str(wrong)) from None
    if node.kind == "n":
        return 0
    if node.kind != "0":
        raise _cannot(_NAMES_OF_KINDS[node.kind], name)
    digits = literal[node.start : node.end]
    return _in_range(digits, name, low, high)


def _in_range(digits: bytes, name: str, low: int, high: int) -> int:
    """The integer of a JSON number; 20 digits are enough for all that fit, so that nobody has a million of them read."""
    fits = _INTEGER.match(digits) and len(digits) <= 20 and not (low == 0 and digits[:1] == b"-")
    if fits and low <= (number := int(digits)) <= high:
        return number
    raise _cannot(f"number {digits.decode()}", name)


# ---- bytes ----------------------------------------------------------------------------------------------------------


def _bytes(text: bytes, node: Node) -> bytes:
    if node.kind == "n":
        return b""
    if node.kind == '"':
        return _base64(text_of(text[node.start : node.end]).encode())
    if node.kind != "[":
        raise _cannot(_NAMES_OF_KINDS[node.kind], "[]uint8")
    numbers = bytearray()
    for element in node.elements:
        if element.kind == "n":
            numbers.append(0)
        elif element.kind == "0":
            numbers.append(_in_range(text[element.start : element.end], "uint8", 0, 255))
        else:
            raise _cannot(_NAMES_OF_KINDS[element.kind], "uint8")
    return bytes(numbers)


_LETTER = re.compile(rb"[A-Za-z0-9+/]")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _base64(text: bytes) -> bytes:
    """The bytes of base64 with its padding; line ends between the letters don't count. O(bytes)."""
    letters = text.replace(b"\n", b"").replace(b"\r", b"")
    if not _BASE64.fullmatch(letters):
        raise _refused(f"illegal base64 data at input byte {_wrong_byte(text)}")
    return binascii.a2b_base64(letters)


def _wrong_byte(text: bytes) -> int:
    """Which byte Go names of a text that isn't base64: the first that can't stand there; where a group begins that the end cuts
    off, counted back from the end without a look at line ends between; of a single "=", where the second one should be."""
    letters = 0  # of the group of four that is read
    for at, byte in enumerate(text):
        if byte in b"\r\n":
            continue
        if byte != ord("="):
            if not _LETTER.match(text, at):
                return at
            letters = (letters + 1) % 4
            continue
        if letters < 2:
            return at
        rest = at + 1
        while rest < len(text) and text[rest] in b"\r\n":
            rest += 1
        if letters == 3:
            return rest
        if rest == len(text):
            return rest
        if text[rest] != ord("="):
            return rest - 1
        rest += 1
        while rest < len(text) and text[rest] in b"\r\n":
            rest += 1
        return rest
    return len(text) - letters


# ---- answers --------------------------------------------------------------------------------------------------------


def render_plain(message: Message) -> bytes:
    """The message as etcd's gateway answers it, without blanks. O(bytes)."""
    members = []
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if value is None or not (value or field.oneof or field.kind is Kind.MESSAGE) or (field.repeated and not value):
            continue
        if field.repeated:
            rendered = b"[" + b",".join([_rendered(field, each) for each in value]) + b"]"
        else:
            rendered = _rendered(field, value)
        members.append(b'"' + field.name.encode() + b'":' + rendered)
    return b"{" + b",".join(members) + b"}"


def _rendered(field: Field, value: Any) -> bytes:
    kind = field.kind
    if kind is Kind.MESSAGE:
        return render_plain(value)
    if kind is Kind.BYTES:
        return b'"' + binascii.b2a_base64(value, newline=False) + b'"'
    if kind is Kind.STRING:
        return quoted(value)
    if kind is Kind.BOOL:
        return b"true" if value else b"false"
    if kind is Kind.UINT32:
        return b"%d" % value
    if kind is Kind.ENUM:
        return _enum_name(field.of, value)
    return b'"%d"' % value


def _enum_name(of: type[IntEnum] | None, value: int) -> bytes:
    assert of is not None
    try:
        return b'"' + of(value).name.encode() + b'"'
    except ValueError:
        return b"%d" % value

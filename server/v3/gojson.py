"""JSON as Go's encoding/json reads it: the grammar, and word for word what it says when a text doesn't follow it.

    read(b'{"key": [1, "a"]} …')  →  Node "{" (bytes 0 to 17)
                                       "key": Node "[" (8 to 16)
                                                Node "0" (9 to 10)     any number
                                                Node '"' (12 to 15)

Clients compare sentences, and bodies that people write by hand are wrong in every possible way. A general JSON reader says
its own sentences, and takes what Go refuses (NaN) or reads differently (a lone surrogate, bytes that aren't UTF-8). And it
gives numbers, where etcd's answer quotes their text. So a Node keeps where it stands.

1. One pass, without recursion: 10,000 levels at most, as in Go. O(bytes).
2. What follows the value is not looked at.
3. A text that ends too early is `Incomplete`, so that a reader of a stream can wait for the rest.
4. Of two members with the same name, the last one counts.

Follows encoding/json of Go 1.16 (scanner.go, decode.go), with which upstream's etcd 3.5 is built.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from typing import NamedTuple

__all__ = ["Incomplete", "Node", "SyntaxError_", "go_quoted", "read", "read_all", "text_of"]

_DEPTH_MAX = 10_000

_SPACE = re.compile(rb"[ \t\r\n]*")
_DIGITS = re.compile(rb"[0-9]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = b"0123456789abcdefABCDEF"
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}

_VALUE = "looking for beginning of value"
_NAME = "looking for beginning of object key string"


class SyntaxError_(Exception):
    """The text isn't JSON; the sentence is Go's."""


class Incomplete(SyntaxError_):
    """The text may be the beginning of JSON. Go says "unexpected EOF" of a stream, something else of a string."""

    def __init__(self) -> None:
        super().__init__("unexpected EOF")


class Node(NamedTuple):
    """A value of a text.

    kind: its first byte, `{ [ " t f n`, or 0 for any number. start, end: its bytes in the text. members: of an object, by
    name. elements: of an array.
    """

    kind: str
    start: int
    end: int
    members: dict[str, Node]
    elements: list[Node]


def read(text: bytes, at: int = 0) -> Node | None:
    """The first value at or after `at`; None if nothing but blanks follows. Raises SyntaxError_."""
    at = _skip(text, at)
    return _read(text, at) if at < len(text) else None


def read_all(text: bytes) -> Node:
    """The value that is the whole text. Raises SyntaxError_ with what Go says of a string instead of a stream."""
    try:
        node = _read(text, _skip(text, 0))
    except Incomplete:
        with contextlib.suppress(
            Incomplete
        ):  # Go puts a blank behind a text that is cut off, and complains of that first
            _read(text + b" ", _skip(text + b" ", 0))
        raise SyntaxError_("unexpected end of JSON input") from None
    rest = _skip(text, node.end)
    if rest < len(text):
        raise _unexpected(text, rest, "after top-level value")
    return node


class _Open(NamedTuple):
    """An object or array that has begun, and the name of the member that is read, of an object."""

    node: Node
    name: str


def _read(text: bytes, at: int) -> Node:
    """The value that begins at `at`."""
    opened: list[_Open] = []
    while True:
        kind, end = _begin(text, at)
        node = Node(kind, at, end, {}, [])
        if kind in "{[":
            if len(opened) == _DEPTH_MAX:
                raise _unexpected(text, at, "exceeded max depth")
            inside = _skip(text, end)
            if _byte(text, inside) != (ord("}") if kind == "{" else ord("]")):
                name, at = _name(text, inside) if kind == "{" else ("", inside)
                opened.append(_Open(node, name))
                continue
            node = node._replace(end=inside + 1)
        while True:  # the value is complete; and so may be what it stands in
            if not opened:
                return node
            container, name = opened.pop()
            if container.kind == "{":
                container.members[name] = node
            else:
                container.elements.append(node)
            at = _skip(text, node.end)
            closing = ord("}") if container.kind == "{" else ord("]")
            found = _byte(text, at)
            if found == closing:
                node = container._replace(end=at + 1)
                continue
            if found != ord(","):
                raise _unexpected(
                    text, at, "after object key:value pair" if container.kind == "{" else "after array element"
                )
            at = _skip(text, at + 1)
            name, at = _name(text, at) if container.kind == "{" else ("", at)
            opened.append(_Open(container, name))
            break


def _begin(text: bytes, at: int) -> tuple[str, int]:
    """What kind of value begins at `at`, and where it ends; of an object or array, where its first byte ends."""
    first = _byte(text, at)
    if first in b"{[":
        return chr(first), at + 1
    if first == ord('"'):
        return '"', _string_end(text, at + 1)
    if first in _LITERALS:
        return chr(first), _literal_end(text, at)
    if first in b"-0123456789":
        return "0", _number_end(text, at)
    raise _unexpected(text, at, _VALUE)


def _name(text: bytes, at: int) -> tuple[str, int]:
    """The name of a member, and where its value begins."""
    if _byte(text, at) != ord('"'):
        raise _unexpected(text, at, _NAME)
    end = _string_end(text, at + 1)
    colon = _skip(text, end)
    if _byte(text, colon) != ord(":"):
        raise _unexpected(text, colon, "after object key")
    return text_of(text[at:end]), _skip(text, colon + 1)


def _string_end(text: bytes, at: int) -> int:
    """The offset after the closing quote of the string whose content begins at `at`."""
    while True:
        found = _PLAIN.match(text, at)
        assert found is not None  # it may match nothing
        at = found.end()
        byte = _byte(text, at)
        if byte == ord('"'):
            return at + 1
        if byte != ord("\\"):
            raise _unexpected(text, at, "in string literal")
        escape = _byte(text, at + 1)
        if escape == ord("u"):
            for each in range(at + 2, at + 6):
                if _byte(text, each) not in _HEX:
                    raise _unexpected(text, each, "in \\u hexadecimal character escape")
            at += 6
        elif escape in b'"\\/bfnrt':
            at += 2
        else:
            raise _unexpected(text, at + 1, "in string escape code")


def _number_end(text: bytes, at: int) -> int:
    if text[at] == ord("-"):
        at = _require_digit(text, at + 1, "in numeric literal")
    at = at + 1 if text[at] == ord("0") else _skip_digits(text, at)
    if text[at : at + 1] == b".":
        at = _skip_digits(text, _require_digit(text, at + 1, "after decimal point in numeric literal"))
    if text[at : at + 1] in (b"e", b"E"):
        at += 2 if text[at + 1 : at + 2] in (b"+", b"-") else 1
        at = _skip_digits(text, _require_digit(text, at, "in exponent of numeric literal"))
    return at


def _require_digit(text: bytes, at: int, where: str) -> int:
    if _byte(text, at) not in b"0123456789":
        raise _unexpected(text, at, where)
    return at


def _literal_end(text: bytes, at: int) -> int:
    literal = _LITERALS[text[at]]
    for offset, expected in enumerate(literal):
        if _byte(text, at + offset) != expected:
            raise _unexpected(text, at + offset, f"in literal {literal.decode()} (expecting {_go_character(expected)})")
    return at + len(literal)


def _skip(text: bytes, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # it may match nothing
    return found.end()


def _skip_digits(text: bytes, at: int) -> int:
    found = _DIGITS.match(text, at)
    assert found is not None  # it may match nothing
    return found.end()


def _byte(text: bytes, at: int) -> int:
    if at >= len(text):
        raise Incomplete
    return text[at]


def _unexpected(text: bytes, at: int, where: str) -> SyntaxError_:
    return SyntaxError_(f"invalid character {_go_character(text[at])} {where}")


# ---- texts ----------------------------------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _replace_one_byte(wrong: UnicodeError) -> tuple[str, int]:
    assert isinstance(wrong, UnicodeDecodeError)
    return "\ufffd", wrong.start + 1


# Python would replace all bytes of a character that is cut off by one mark, Go each of them.
codecs.register_error("metcd-each-byte", _replace_one_byte)


def text_of(literal: bytes) -> str:
    """The text of a string, which stands here with its quotes, valid by Go's grammar. O(bytes)."""
    text = literal[1:-1].decode("utf-8", "metcd-each-byte")
    if "\\" not in text:
        return text
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2]), text)
    # two escapes may be a pair of surrogates, which is one character; one alone is none
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_GO_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", '"': '\\"', "\\": "\\\\",
}  # fmt: skip


def go_quoted(text: bytes) -> str:
    """The bytes as Go's %q writes them: in double quotes, what can't be printed escaped. O(bytes)."""
    parts = []
    for character in text.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if character in _GO_ESCAPES:
            parts.append(_GO_ESCAPES[character])
        elif character == " " or (character.isprintable() and not character.isspace()):
            parts.append(character)
        elif code < 0x20:
            parts.append(f"\\x{code:02x}")
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
    return f'"{"".join(parts)}"'


def _go_character(byte: int) -> str:
    """A byte as Go's scanner shows it: as if it were a character of its own."""
    if byte == ord("'"):
        return "'\\''"
    if byte == ord('"'):
        return "'\"'"
    return f"'{go_quoted(chr(byte).encode())[1:-1]}'"

"""Messages, and bodies that are nearly theirs, drawn by a seed."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from server.v3 import rpc
from server.v3.messages import Field, Kind, Message, fields_of

__all__ = ["CLASSES", "body", "message", "mutated"]

CLASSES: list[type[Message]] = [
    each
    for name in rpc.__all__
    if isinstance(each := getattr(rpc, name), type) and issubclass(each, Message) and each is not Message
]

_INTEGERS = [0, 1, 2, 7, 255, 4660, 1 << 31, (1 << 32) - 1, 10**17, 10**18, (1 << 60) - 1, 1 << 60, (1 << 63) - 1]
_TEXTS = ["", "a", "root", "é", "<&>", "http://127.0.0.1:2379", "\u2028", "\b\n\\", '"', "𝄞"]

# What readers of JSON differ in; each is put somewhere into a body, or takes the place of some of it.
_TOKENS = [
    *("null", "true", "false", "0", "-0", "1.0", "1e2", "-1", "01", "NaN", "Infinity", "9223372036854775808", "1" * 400),
    *('""', '"5"', '" 5 "', '"-0"', '"null"', '"two"', '"\\u0035"', '"\\ud800"', '"YQ"', '"YQ=="', '"Y\\nQ=="', '"="'),
    *('"-_8="', '"YQ==YQ=="', '"é"', "\x00", "\x7f", "\ufeff", "'", "\\", '"', "{", "}", "[", "]", ":", ",", "{}", "[]"),
    *('[1,2]', "[300]", '"KEY":1,', '"range_end":"Yg==",', '"rangeEnd":"eg==",', '"request_put":{},', " ", "\n", "/**/"),
]  # fmt: skip


def message(rng: random.Random, cls: type[Message], depth: int = 4) -> Message:
    """A message of the class, about half of its fields set, at most one of each oneof."""
    filled = cls()
    taken: set[str] = set()
    for field in rng.sample(fields_of(cls), len(fields_of(cls))):
        if rng.random() < 0.5 or field.oneof in taken or (field.kind is Kind.MESSAGE and not depth):
            continue
        if field.oneof:
            taken.add(field.oneof)
        if field.repeated:
            setattr(filled, field.name, [_value(rng, field, depth) for _ in range(rng.choice([0, 1, 2, 5]))])
        else:
            setattr(filled, field.name, _value(rng, field, depth))
    return filled


def _value(rng: random.Random, field: Field, depth: int) -> Any:
    kind = field.kind
    if kind is Kind.MESSAGE:
        assert field.of is not None
        return message(rng, field.of, depth - 1)
    if kind is Kind.BYTES:
        return rng.randbytes(rng.choice([0, 1, 2, 3, 40]))
    if kind is Kind.STRING:
        return rng.choice(_TEXTS)
    if kind is Kind.BOOL:
        return rng.random() < 0.5
    if kind is Kind.ENUM:
        assert field.of is not None
        return int(rng.choice([*field.of, 77] if field.name in ("type", "filters") else list(field.of)))
    number = rng.choice(_INTEGERS)
    if kind is Kind.UINT32:
        return number & 0xFFFF_FFFF
    return number if kind is Kind.UINT64 or rng.random() < 0.7 else -number


def body(rng: random.Random, filled: Message) -> bytes:
    """The message as some client may write it: either name of a field, numbers or strings, blanks or none."""
    return json.dumps(
        _members(rng, filled), indent=rng.choice([None, None, 1]), ensure_ascii=rng.random() < 0.5
    ).encode()


def _members(rng: random.Random, filled: Message) -> dict[str, Any]:
    members = {}
    for field in fields_of(type(filled)):
        value = getattr(filled, field.name)
        if value is not None and (field.oneof or value not in (0, b"", "", []) or rng.random() < 0.1):
            name = rng.choice([field.name, field.json_name])
            members[name] = (
                [_written(rng, field, each) for each in value] if field.repeated else _written(rng, field, value)
            )
    return members


def _written(rng: random.Random, field: Field, value: Any) -> Any:
    if field.kind is Kind.MESSAGE:
        return _members(rng, value)
    if field.kind is Kind.BYTES:
        return base64.b64encode(value).decode() if rng.random() < 0.9 else list(value)
    if field.kind is Kind.ENUM:
        assert field.of is not None
        return field.of(value).name if value in set(field.of) and rng.random() < 0.5 else value
    if field.kind in (Kind.STRING, Kind.BOOL) or rng.random() < 0.5:
        return value
    return str(value)


def mutated(rng: random.Random, text: bytes) -> bytes:
    """The body with one to three changes."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(text) + 1)
        till = min(len(text), at + rng.choice([0, 0, 1, 2, 6]))
        new = rng.choice(
            [b"", rng.randbytes(1), *[token.encode("utf-8", "surrogatepass") for token in rng.sample(_TOKENS, 4)]]
        )
        text = text[:at] + new + text[till:]
    return text if rng.random() < 0.95 else text[: rng.randrange(len(text) + 1)]

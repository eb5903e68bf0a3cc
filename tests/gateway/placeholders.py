"""What depends on chance or time in a transcript, and what it has to be like.

A string in angle brackets stands for a value. The names in BOUND are bound by their first value: the same placeholder is the
same value in the whole transcript, and two placeholders are two values. The others only have to be of their kind.

    <cluster_id>, <member_id>, <member_id_2>, <lease_id>     decimal strings; the same wherever they stand
    <token>, <client_url>, <peer_url_2>                      strings; the same wherever they stand
    <raft_term>, <seconds left>, <dbSize>, …                 decimal strings; others each time
    <base64 of l/ and a lease id in hex>                     a key that a lock or a candidate was given
    <700000 bytes of x in base64>                            so much, written out in requests and answers
"""

from __future__ import annotations

import base64
import re
from typing import Any

__all__ = ["Placeholders"]

PLACEHOLDER = re.compile(r"<[A-Za-z0-9_/ ]+>")
DECIMAL = re.compile(r"-?[0-9]{1,20}")
BOUND = re.compile(r"<(cluster_id|member_id|lease_id|token|client_url|peer_url|base64 of .*)(_[0-9]+)?>")
IDS = re.compile(r"<(cluster_id|member_id|lease_id)(_[0-9]+)?>")
REPEATED = re.compile(r"<([0-9]+) bytes of (.) in base64>")
COUNTED = re.compile(r"<([0-9]+) characters>")
NAMED_KEY = re.compile(r"<base64 of (.*) and a lease id in hex>")
NUMBERS = {"<hash>", "<compact_hash>"}  # JSON numbers; every other placeholder stands for a string
TIMES_AND_SIZES = {
    "<raft_term>", "<raftTerm>", "<raftIndex>", "<raftAppliedIndex>", "<dbSize>", "<dbSizeInUse>", "<seconds left>",
}  # fmt: skip


class Placeholders:
    """The values that one run of a transcript has given to its placeholders."""

    def __init__(self, known: dict[str, str]) -> None:
        """known: placeholders whose values are there from the beginning, such as the nodes' URLs."""
        self._values = dict(known)

    def expand(self, text: str) -> str:
        """A request's text with its placeholders written out."""
        text = REPEATED.sub(lambda found: base64.b64encode(found[2].encode() * int(found[1])).decode(), text)
        for name, value in self._values.items():
            text = text.replace(name, value)
        return text

    def fault(self, expected: Any, actual: Any, path: str = "") -> str | None:
        """The first difference of a JSON value from what was recorded, in words; None if there is none.

        Objects are lists of pairs here (`object_pairs_hook=Pairs`): their order counts.
        """
        if isinstance(expected, Pairs):
            return self._object_fault(expected, actual, path)
        if isinstance(expected, list):
            if not isinstance(actual, list) or len(actual) != len(expected):
                return _differs(path, expected, actual)
            return next(
                (f for at, (e, a) in enumerate(zip(expected, actual)) if (f := self.fault(e, a, f"{path}[{at}]"))), None
            )
        if isinstance(expected, str) and PLACEHOLDER.fullmatch(expected):
            return None if self._fits(expected, actual) else _differs(path, expected, actual)
        if isinstance(expected, str):
            expected = self.expand(expected)  # within a sentence
        if type(expected) is not type(actual) or expected != actual:
            return _differs(path, expected, actual)
        return None

    def _object_fault(self, expected: Pairs, actual: Any, path: str) -> str | None:
        if not isinstance(actual, Pairs):
            return _differs(path, expected, actual)
        wanted, found = [name for name, _ in expected], [name for name, _ in actual]
        if wanted != found:
            return f"{path or 'body'}: the fields are {found}, and were {wanted}"
        for (name, value), (_, got) in zip(expected, actual):
            value, got = _sorted(name, value), _sorted(name, got)
            if (fault := self.fault(value, got, f"{path}.{name}" if path else name)) is not None:
                return fault
        return None

    def text_fault(self, expected: str, actual: str) -> str | None:
        """The same for a body that is no JSON; "<and more lines>" stands for any number of them."""
        parts = re.split(f"({PLACEHOLDER.pattern})", expected)
        pattern = "".join(
            ".*" if part == "<and more lines>" else re.escape(self._values.get(part, part)) for part in parts
        )
        return (
            None if re.fullmatch(pattern, actual, re.DOTALL) else f"text: {actual[:600]!r}, and was {expected[:600]!r}"
        )

    def _fits(self, name: str, value: Any) -> bool:
        if name in NUMBERS:
            return isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, str):
            return False
        if name in self._values:
            return self._values[name] == value
        if found := REPEATED.fullmatch(name):
            return value == self.expand(name)
        if found := COUNTED.fullmatch(name):
            return len(value) == int(found[1])
        if name in TIMES_AND_SIZES or IDS.fullmatch(name):
            if DECIMAL.fullmatch(value) is None:
                return False
        elif found := NAMED_KEY.fullmatch(name):
            key = base64.b64decode(value, validate=True).decode()
            if re.fullmatch(re.escape(found[1]) + "[1-9a-f][0-9a-f]*", key) is None:
                return False
        if BOUND.fullmatch(name):
            kind = name.rstrip(">0123456789").rstrip("_")
            if any(value == given for other, given in self._values.items() if other.startswith(kind)):
                return False
            self._values[name] = value
        return True


class Pairs(list[tuple[str, Any]]):
    """A JSON object with the order of its fields."""


def _sorted(name: str, value: Any) -> Any:
    """Members are in the order of their names in a transcript, and a lease's keys in theirs."""
    if name == "members" and isinstance(value, list):
        return sorted(value, key=lambda member: dict(member).get("name", "~"))
    if name == "keys" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return sorted(value)
    return value


def _differs(path: str, expected: Any, actual: Any) -> str:
    return f"{path or 'body'}: {_short(actual)}, and was {_short(expected)}"


def _short(value: Any) -> str:
    text = repr(dict(value) if isinstance(value, Pairs) else value)
    return text if len(text) < 400 else text[:400] + "…"

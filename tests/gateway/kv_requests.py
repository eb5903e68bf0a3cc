"""Random requests of the service KV, as JSON: few keys and values, so that they meet, and every option that there is.

`draw` makes one of a store's revision and of chance; with Hypothesis's chance it can be made smaller. A transaction has
either deletes from a key to the end, or puts that keep what the key has, not both: etcd has no answer to that.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.gateway.kv_model import coded

__all__ = ["LEASES", "draw"]

Body = dict[str, Any]
KEYS = (b"a", b"a\0", b"ab", b"b", b"c", b"c\xff")
TO_THE_END = b"\0"
ENDS = (*KEYS, TO_THE_END, TO_THE_END, b"d", b"B")
VALUES = (b"", b"1", b"2", b"11", b"\xff\0")
LEASES = (7, 77)  # that there are; 9 is none
INNER_MAX = 2


def draw(rng: Random, revision: int) -> tuple[str, Body]:
    """A path without "/v3/", and a body. revision: about where the store is."""
    path = rng.choices(["kv/range", "kv/put", "kv/deleterange", "kv/txn", "kv/compaction"], [30, 30, 12, 40, 3])[0]
    make = {
        "kv/range": lambda: _range(rng, revision),
        "kv/put": lambda: _put(rng, True),
        "kv/deleterange": lambda: _delete(rng, True),
        "kv/txn": lambda: _Txn(rng, revision).body(INNER_MAX),
        "kv/compaction": lambda: _compaction(rng, revision),
    }
    return path, make[path]()


def _some(rng: Random, chance: float, **fields: Any) -> Body:
    """Each field with this chance."""
    return {name: value for name, value in fields.items() if rng.random() < chance}


def _past(rng: Random, revision: int) -> int:
    return max(1, revision - rng.randrange(8))


def _at(rng: Random, revision: int) -> int:
    return rng.choice([0, -1, -5, revision, revision + 1, *(_past(rng, revision) for _ in range(4))])


def _key(rng: Random) -> str:
    return coded(rng.choice(KEYS)) if rng.random() < 0.98 else ""


def _span(rng: Random, ranges: float, to_the_end: bool = True) -> Body:
    """A key; a range with this chance."""
    if to_the_end and rng.random() < 0.1:
        return {"key": coded(TO_THE_END), "range_end": coded(TO_THE_END)}
    ends = [end for end in ENDS if to_the_end or end != TO_THE_END]
    return {"key": _key(rng), **_some(rng, ranges, range_end=coded(rng.choice(ends)))}


def _range(rng: Random, revision: int) -> Body:
    body = _span(rng, 0.8)
    body |= _some(rng, 0.3, limit=rng.choice([0, -1, 1, 2, 3, 100]), revision=_at(rng, revision))
    body |= _some(rng, 0.3, sort_order=rng.randrange(3), sort_target=rng.randrange(5))
    bounds = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")
    body |= _some(rng, 0.1, **{name: rng.choice([0, _past(rng, revision)]) for name in bounds})
    return body | _some(rng, 0.15, keys_only=True, count_only=True, serializable=True)


def _put(rng: Random, keeps: bool) -> Body:
    """keeps: whether it may keep the value or the lease that the key has."""
    body = {"key": _key(rng), "value": coded(rng.choice(VALUES)), **_some(rng, 0.2, prev_kv=True)}
    body |= _some(rng, 0.2, lease=rng.choice([0, *LEASES, *LEASES, 9]))
    if keeps and rng.random() < 0.15:
        body |= rng.choice([{"ignore_value": True}, {"ignore_value": True, "value": ""}])
    return body | _some(rng, 0.1 if keeps else 0, ignore_lease=True)


def _delete(rng: Random, to_the_end: bool) -> Body:
    return _span(rng, 0.4, to_the_end) | _some(rng, 0.3, prev_kv=True)


def _compaction(rng: Random, revision: int) -> Body:
    return {
        "revision": rng.choice([0, -1, revision, revision + 1, _past(rng, revision)]),
        **_some(rng, 0.3, physical=True),
    }


class _Txn:
    """A transaction with what is in it."""

    def __init__(self, rng: Random, revision: int) -> None:
        self._rng, self._revision = rng, revision
        self._keeps = rng.random() < 0.5

    def body(self, inner: int) -> Body:
        rng = self._rng
        return {
            "compare": [self._compare() for _ in range(rng.choice([0, 1, 1, 2]))],
            "success": [self._operation(inner) for _ in range(rng.randrange(4))],
            "failure": [self._operation(inner) for _ in range(rng.randrange(4))],
        }

    def _operation(self, inner: int) -> Body:
        rng = self._rng
        kinds = ["range", "put", "delete_range", "txn", ""]
        kind = rng.choices(kinds, [30, 40, 15, 10 if inner else 0, 0.3])[0]
        make = {
            "range": lambda: _range(rng, self._revision),
            "put": lambda: _put(rng, self._keeps),
            "delete_range": lambda: _delete(rng, not self._keeps),
            "txn": lambda: self.body(inner - 1),
        }
        return {f"request_{kind}": make[kind]()} if kind else {}

    def _compare(self) -> Body:
        rng, revision = self._rng, self._revision
        target = rng.choice(["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])
        fields = {
            "VERSION": {"version": rng.randrange(4)},
            "CREATE": {"create_revision": rng.choice([0, _past(rng, revision)])},
            "MOD": {"mod_revision": rng.choice([0, _past(rng, revision)])},
            "VALUE": {"value": coded(rng.choice(VALUES))},
            "LEASE": {"lease": rng.choice([0, *LEASES])},
        }
        field = fields[target if rng.random() < 0.95 else rng.choice(sorted(fields))]
        result = rng.choice(["EQUAL", "NOT_EQUAL", "GREATER", "LESS"])
        body = _span(rng, 0.3) | {"target": target, "result": result} | (field if rng.random() < 0.95 else {})
        return {name: value for name, value in body.items() if value not in ("VERSION", "EQUAL") or rng.random() < 0.8}

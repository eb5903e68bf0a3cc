"""Which operation comes next, and doing it to a store.

    mix = Mix(get=0.9, put=0.08, scan=0.02)
    load(store, 10_000)                                       keys 0 to 9,999, each once, in random order
    for operation in operations(mix, chooser, 1_000, rng):    a list is the same work for every engine
        apply(store, operation)

A put of a mix overwrites the chosen key; an insert adds the next one, and tells the chooser. Keys have 16 bytes and values
100, as db_bench has it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import NamedTuple

from bench.choosers import Chooser
from engines import KVStore

__all__ = ["SCAN_PAIRS", "VALUE_BYTES", "Kind", "Mix", "Operation", "apply", "key_of", "load", "operations"]

VALUE_BYTES = 100
SCAN_PAIRS = 10  # what a scan of a mix asks for


class Kind(Enum):
    """What an operation does."""

    GET = "get"
    PUT = "put"
    INSERT = "insert"
    DELETE = "delete"
    SCAN = "scan"


class Operation(NamedTuple):
    """One operation. `value` is for puts and inserts."""

    kind: Kind
    key: bytes
    value: bytes = b""


@dataclass(frozen=True)
class Mix:
    """The share of each kind. Raises ValueError unless they are at least 0 and their sum is 1."""

    get: float = 0.0
    put: float = 0.0
    insert: float = 0.0
    delete: float = 0.0
    scan: float = 0.0

    def __post_init__(self) -> None:
        if min(self.shares.values()) < 0 or abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"the shares of a mix are at least 0 and make 1 together, and these are {self}")

    @property
    def shares(self) -> dict[Kind, float]:
        """The share of each kind, in the order of `Kind`."""
        return {kind: getattr(self, kind.value) for kind in Kind}

    def kind(self, draw: float) -> Kind:
        """What a draw from [0, 1) falls on, if the shares lie one after the other in the order of `self.shares`.

        A kind without a share never comes, not even for a draw of 0 or for one so near to 1 that rounding leads beyond the
        last share: then the last kind that has one is meant. O(kinds).
        """
        chosen = None
        for kind, share in self.shares.items():
            if share:
                chosen = kind
                if draw < share:
                    break
            draw -= share
        assert chosen is not None, "the shares make 1"
        return chosen


def key_of(number: int) -> bytes:
    """The key of a number: 16 digits."""
    return b"%016d" % number


def operations(mix: Mix, chooser: Chooser, count: int, rng: random.Random, *, keys: int) -> Iterator[Operation]:
    """So many operations of a mix, on a store that has `keys` keys."""
    for _ in range(count):
        kind = mix.kind(rng.random())
        if kind is Kind.INSERT:
            yield Operation(kind, key_of(keys), rng.randbytes(VALUE_BYTES))
            keys += 1
            chooser.grow()
            continue
        key = key_of(chooser.next(rng))
        yield Operation(kind, key, rng.randbytes(VALUE_BYTES) if kind is Kind.PUT else b"")


def apply(store: KVStore, operation: Operation) -> int:
    """Does one operation to a store, and returns how many pairs were read: 0 or 1 for a get, at most SCAN_PAIRS for a scan.

    A scan begins at the key, and asks for no pair more than SCAN_PAIRS: what a lazy scan isn't asked for costs nothing. Puts
    and inserts write `value`, and a delete the absence of the key; all three return 0, with the store's own `sync`.
    """
    if operation.kind is Kind.GET:
        return store.get(operation.key) is not None
    if operation.kind is Kind.SCAN:
        return len(list(islice(store.scan(operation.key), SCAN_PAIRS)))
    if operation.kind is Kind.DELETE:
        store.delete(operation.key)
    else:
        store.put(operation.key, operation.value)
    return 0


def load(store: KVStore, count: int, rng: random.Random) -> None:
    """Puts the keys 0 to count - 1, in random order and in batches of 100, and flushes."""
    numbers = rng.sample(range(count), count)
    for at in range(0, count, 100):
        with store.batch(sync=False) as batch:
            for number in numbers[at : at + 100]:
                batch.put(key_of(number), rng.randbytes(VALUE_BYTES))
    store.flush()

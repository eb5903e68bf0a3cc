"""What a workload calls: the methods of one opened store, each bound once.

A peer's method is its native one wherever the signature fits, so that no wrapper of ours is charged to it; and so is an
engine's. A workload that needs a call which a subject doesn't have is left out for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from engines import KVStore, Stats
from engines.kvstore import Pair

__all__ = ["Calls", "calls_of"]


@dataclass(frozen=True, kw_only=True)
class Calls:
    """An opened store. get gives None for an absent key; what put, delete and batch return is not looked at.

    scan: all pairs, in key order if the store has one. seek: at most so many pairs, from a key on; None for a store
    without an order. put_beside: a put for one other thread, made in that thread; None if the store is for one thread.
    stats: None for a peer, which is not asked. persistent: whether anything is there when it is opened again.
    """

    put: Callable[[bytes, bytes], Any]
    get: Callable[[bytes], bytes | None]
    delete: Callable[[bytes], Any]
    batch: Callable[[Sequence[Pair]], Any]
    scan: Callable[[], Iterable[Pair]]
    seek: Callable[[bytes, int], Sequence[Pair]] | None
    close: Callable[[], Any]
    put_beside: Callable[[], Callable[[bytes, bytes], Any]] | None = None
    stats: Callable[[], Stats] | None = None
    persistent: bool = True


def calls_of(store: KVStore) -> Calls:
    """The calls of an engine of ours, or of one that keeps our contract."""
    scan = store.scan

    def seek(key: bytes, count: int) -> Sequence[Pair]:
        return list(islice(scan(key), count))

    def batch(pairs: Sequence[Pair]) -> None:
        with store.batch() as batch:
            put = batch.put
            for key, value in pairs:
                put(key, value)

    def pairs() -> Iterator[Pair]:
        return scan()

    return Calls(
        put=store.put, get=store.get, delete=store.delete, batch=batch, scan=pairs, seek=seek, close=store.close,
        put_beside=lambda: store.put, stats=store.stats, persistent=store.persistent,
    )  # fmt: skip

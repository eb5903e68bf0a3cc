"""The model: what a store is, said with a dict.

A scan is a sorted list with a condition, a snapshot is a copy, and a write is a loop. Too slow for anything but being
obviously right, which is what the engines are judged by.
"""

from __future__ import annotations

from collections.abc import Iterable

from engines.kvstore import Operation, Pair

__all__ = ["Model", "expected_scan"]


def expected_scan(
    items: dict[bytes, bytes],
    start: bytes = b"",
    stop: bytes | None = None,
    prefix: bytes | None = None,
    reverse: bool = False,
) -> list[Pair]:
    """What a scan of `items` has to show, straight from the contract's sentence."""
    return sorted(
        (
            (key, value)
            for key, value in items.items()
            if start <= key and (stop is None or key < stop) and key.startswith(prefix or b"")
        ),
        reverse=reverse,
    )


class Model:
    """A store's content, and every content it might fall back to if the power were cut now.

    `survivors` begins with the last content that is known to be on disk; each write that didn't ask for the disk adds
    the content after it. After a power cut the store must hold one of them: a prefix of history, batches whole.
    """

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.survivors: list[dict[bytes, bytes]] = [{}]

    def write(self, operations: Iterable[Operation], *, durable: bool) -> None:
        """Applies a batch."""
        for key, value in operations:
            if value is None:
                self.items.pop(key, None)
            else:
                self.items[key] = value
        self.survivors.append(dict(self.items))
        if durable:
            self.harden()

    def load(self, items: dict[bytes, bytes]) -> None:
        """Replaces the content; durable."""
        self.items = dict(items)
        self.harden()

    def harden(self) -> None:
        """Everything up to now is on disk: after a flush, a load, a close, or a write with sync=True."""
        self.survivors = [dict(self.items)]

    def fall_back_to(self, items: dict[bytes, bytes]) -> None:
        """A power cut left `items`. Raises AssertionError if that can't be."""
        assert items in self.survivors, _impossible(items, self.survivors)
        self.items = dict(items)
        self.harden()


def _impossible(items: dict[bytes, bytes], survivors: list[dict[bytes, bytes]]) -> str:
    nearest = min(survivors, key=lambda survivor: len(survivor.items() ^ items.items()))
    return (
        f"after the power cut the store holds none of the {len(survivors)} contents that it may: compared with the "
        f"nearest of them it lacks {sorted(nearest.items() - items.items())[:5]} "
        f"and has {sorted(items.items() - nearest.items())[:5]}"
    )

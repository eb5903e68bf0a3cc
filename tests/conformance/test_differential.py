"""All engines answer alike: one list of random operations, the same for each, and each answer compared.

The state machine judges each engine by the model, in short histories that can be cut down. Here the histories are long,
so that levels fill, trees split and segments are merged, and the first difference is told with who answered what.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pytest

from engines import KVStore, Snapshot
from tests.conformance.engine_table import Engine, engine_table
from tests.conformance.operations import batch_of

OPERATIONS_COUNT = 1_000
LAST_SHOWN = 6

Step = tuple[str, tuple[Any, ...]]


@dataclass
class Player:
    """One engine on its way through the list."""

    engine: Engine
    path: str
    store: KVStore = field(init=False)
    snapshots: list[Snapshot] = field(default_factory=list)
    error: Exception | None = None  # what the last step raised

    def __post_init__(self) -> None:
        self.store = self.engine.open(self.path, sync=False)

    def play(self, step: Step) -> object:
        """Does one step; what it returns, or the name of what it raises, has to be the same for everybody."""
        name, arguments = step
        self.error = None
        try:
            return getattr(self, name)(*arguments)
        except Exception as error:
            self.error = error
            return f"raised {type(error).__name__}"

    def put(self, key: bytes, value: bytes) -> None:
        self.store.put(key, value)

    def delete(self, key: bytes) -> None:
        self.store.delete(key)

    def batch(self, operations: list[tuple[bytes, bytes | None]]) -> None:
        self.store.write(batch_of(operations))

    def load(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.store.load(pairs)

    def get(self, keys: list[bytes]) -> object:
        return self.store.multi_get(keys)

    def scan(self, bounds: dict[str, Any], limit: int) -> object:
        return list(islice(self.store.scan(**bounds), limit))

    def take_snapshot(self) -> None:
        self.snapshots.append(self.store.snapshot())
        if len(self.snapshots) > 3:
            self.snapshots.pop(0).close()

    def scan_snapshot(self, which: int, bounds: dict[str, Any]) -> object:
        return list(self.snapshots[which].scan(**bounds)) if which < len(self.snapshots) else None

    def settle(self, how: str) -> object:
        getattr(self.store, how)()
        return self.store.check()

    def reopen(self) -> None:
        """For the engines whose content outlives the object; the others have nothing to show here."""
        while self.snapshots:
            self.snapshots.pop().close()
        if self.engine.persistent:
            self.store.close()
            self.store = self.engine.open(self.path, sync=False)


def random_steps(rng: random.Random, count: int) -> list[Step]:
    """A history: keys of three popularities, values of many sizes, and now and then something that must be refused."""

    def key() -> bytes:
        return rng.choice((b"hot/%d", b"warm/%02d", b"cold/%04d")) % int(rng.random() ** 3 * 3_000)

    def value() -> bytes:
        return rng.randbytes(rng.choice((0, 1, 10, 100, 100, 1_000)))

    def operations(most: int) -> list[tuple[bytes, bytes | None]]:
        return [(key(), value() if rng.random() < 0.7 else None) for _ in range(rng.randint(0, most))]

    def bounds() -> dict[str, Any]:
        return {
            "start": rng.choice((b"", key())),
            "stop": rng.choice((None, key())),
            "prefix": rng.choice((None, b"warm/", key()[:6])),
            "reverse": rng.random() < 0.5,
        }

    makers: list[tuple[int, Callable[[], Step]]] = [
        (30, lambda: ("put", (key(), value()))),
        (10, lambda: ("delete", (key(),))),
        (10, lambda: ("batch", (operations(40),))),
        (1, lambda: ("put", (rng.choice((b"", b"k" * 32_769, "text", None)), b"value"))),
        (20, lambda: ("get", ([key() for _ in range(5)],))),
        (12, lambda: ("scan", (bounds(), rng.choice((1, 10, 1_000))))),
        (3, lambda: ("take_snapshot", ())),
        (6, lambda: ("scan_snapshot", (rng.randrange(3), bounds()))),
        (2, lambda: ("settle", (rng.choice(("flush", "compact", "check")),))),
        (1, lambda: ("reopen", ())),
    ]
    steps = rng.choices([maker for _, maker in makers], [weight for weight, _ in makers], k=count)
    made = [maker() for maker in steps]
    made[count * 2 // 3] = ("load", (sorted(dict.fromkeys((key() for _ in range(400)), b"loaded").items()),))
    made[count * 3 // 4] = ("load", ([(b"b", b"not"), (b"a", b"sorted")],))
    return made


def first_difference(players: list[Player], steps: list[Step]) -> str | None:
    """Plays the list side by side; None, or the first step at which the answers differ, as a text for people."""
    for number, step in enumerate(steps):
        answers = [player.play(step) for player in players]
        if any(answer != answers[0] for answer in answers):
            return _told(players, steps, number, answers)
    return None


def _told(players: list[Player], steps: list[Step], number: int, answers: list[object]) -> str:
    lines = [f"the engines differ at operation {number} of {len(steps)}:", ""]
    for earlier in range(max(0, number - LAST_SHOWN), number + 1):
        lines.append(f"  {'→' if earlier == number else ' '} {earlier:5}  {_short(steps[earlier])}")
    lines.append("")
    for player, answer in zip(players, answers):
        lines.append(f"  {player.engine.name:>12} answers {_short(answer)}")
        if player.error is not None:
            lines.append(f"               because {player.error}")
    lists = [answer for answer in answers if isinstance(answer, list)]
    if len(lists) == len(answers):
        place = next(
            index for index, items in enumerate(zip_longest(*lists)) if any(item != items[0] for item in items)
        )
        for player, answer in zip(players, lists):
            lines.append(
                f"  {player.engine.name:>12} has {_short(answer[place : place + 2])} at {place} of {len(answer)}"
            )
    return "\n".join(lines)


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 200 else f"{text[:150]} … ({len(text):,} characters)"


def play_all(table: list[Engine], directory: Path, steps: list[Step]) -> str | None:
    """The first difference between the engines of the table and the memory engine, which always plays along."""
    if all(engine.where != "memory" for engine in table):
        table = [Engine("memory"), *table]
    players = [Player(engine, str(directory / f"{number}")) for number, engine in enumerate(table)]
    try:
        return first_difference(players, steps) or first_difference(players, [("scan", ({}, 1 << 30))])
    finally:
        for player in players:
            player.store.close()


def test_all_engines_answer_alike(request: pytest.FixtureRequest, tmp_path: Path, rng: random.Random) -> None:
    """One history, every engine of the table."""
    table = engine_table(request.config.getoption("--engine"))
    difference = play_all(table, tmp_path, random_steps(rng, OPERATIONS_COUNT))
    assert difference is None, difference


@pytest.mark.slow
def test_all_engines_answer_alike_for_long(request: pytest.FixtureRequest, tmp_path: Path, rng: random.Random) -> None:
    """The same with 40,000 operations."""
    table = engine_table(request.config.getoption("--engine"))
    difference = play_all(table, tmp_path, random_steps(rng, 40_000))
    assert difference is None, difference


def test_the_first_difference_is_told(tmp_path: Path, rng: random.Random) -> None:
    """A store whose deleted keys rise at compaction is found, and the text says where, after what, and who said what."""
    broken = Engine(f"{Path(__file__).parent}/broken_stores.py:DeletedKeysRise")
    difference = play_all([broken], tmp_path, random_steps(rng, OPERATIONS_COUNT))
    assert difference is not None
    assert "the engines differ at operation" in difference
    assert "memory answers" in difference
    assert "broken_stores.py:DeletedKeysRise answers" in difference
    assert "→" in difference

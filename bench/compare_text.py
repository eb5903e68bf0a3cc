"""Two runs side by side, as lines: every rate with the interval of its ratio, and what is counted where it has changed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.compare import Change, compare, remarks
from bench.quantities import factor, number, rate, size
from bench.results import Results

__all__ = ["lines"]

RATE = "operations a second"
CHANCE = 0.05  # of 95 % intervals, so many leave out what is true


def lines(before: Results, after: Results) -> Iterator[str]:
    """The lines of a comparison; the first run is the base of every ratio."""
    changes = compare(before, after)
    for sentence in remarks(before, after):
        yield f"mind: {sentence}"
    if not changes:
        yield "the two runs have no workload in common that the same subject ran with the same number of keys"
        return
    rates = [change for change in changes if change.quantity == RATE]
    yield from _table("thousand operations a second", rates, rate)
    for quantity in dict.fromkeys(change.quantity for change in changes if change.quantity != RATE):
        differing = [change for change in changes if change.quantity == quantity and _is_real(change)]
        yield from _table(quantity, differing, number if quantity.endswith("each") else size)
    yield ""
    if all(change.interval is None for change in changes):
        yield "one repetition has no interval, and so nothing can be said to differ: --repetitions 3, or more"
        return
    real = sum(map(_is_real, changes))
    yield (
        f"{real} of {len(changes)} figures differ, {sum(map(_is_real, rates))} of {len(rates)} rates among them. "
        f"By chance alone up to {math.ceil(CHANCE * len(changes))} would seem to."
    )


def _is_real(change: Change) -> bool:
    return change.interval is not None and change.interval.real


def _table(heading: str, changes: list[Change], shown: object) -> Iterator[str]:
    if not changes:
        return
    assert callable(shown), "a function from a figure to its text"
    names = [f"{change.workload}, {change.keys:,} keys, {change.subject}" for change in changes]
    width = max(len(heading), *map(len, names))
    yield ""
    yield f"{heading:{width}}{'before':>12}{'after':>12}{'ratio':>8}   from and to"
    for name, change in zip(names, changes):
        interval = change.interval
        if interval and interval.ratio in (0, math.inf):
            yield f"{name:{width}}{shown(change.before):>12}{shown(change.after):>12}{'':8}   differs"
            continue
        between = f"{factor(interval.low)} to {factor(interval.high)}" if interval else "one repetition"
        ratio = factor(interval.ratio) if interval else factor(change.after / change.before) if change.before else "-"
        verdict = "   differs" if _is_real(change) else ""
        yield f"{name:{width}}{shown(change.before):>12}{shown(change.after):>12}{ratio:>8}   {between}{verdict}"

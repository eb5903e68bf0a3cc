"""`python tests/bench/table.py RESULTS.json`: one table of what pytest-benchmark has measured.

A line for each part: what one operation takes, from the median round, how far the fastest and the slowest round were from
that, and what an operation is. `make bench` prints it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["duration", "table"]


def table(results: dict[str, Any]) -> str:
    """The results as a text. Raises ValueError if there are none, or if one doesn't say what was measured."""
    benchmarks = results["benchmarks"]
    if not benchmarks:
        raise ValueError("nothing was measured")
    rows = [("part", "each", "rounds", "what one is")]
    for bench in benchmarks:
        told, stats = bench["extra_info"], bench["stats"]
        if missing := {"what", "operations"} - told.keys():
            raise ValueError(f"{bench['name']} doesn't say {' and '.join(sorted(missing))}")
        spread = [100 * (stats[end] / stats["median"] - 1) for end in ("min", "max")]
        name = bench["name"].removeprefix("test_").replace("_", " ").replace("[", " (").replace("]", ")")
        rows.append(
            (
                name,
                duration(stats["median"] / told["operations"]),
                f"{spread[0]:+.0f} to {spread[1]:+.0f} %",
                told["what"],
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [f"{n:<{widths[0]}}  {e:>{widths[1]}}  {r:>{widths[2]}}  {w}" for n, e, r, w in rows]
    machine = results["machine_info"]
    return "\n".join(
        [*lines, "", f"Python {machine['python_version']}, {machine['cpu'].get('brand_raw', machine['machine'])}"]
    )


def duration(seconds: float) -> str:
    """Three digits that mean something: "2.98 µs"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            value = seconds / size
            return (
                f"{value:,.0f} {unit}"
                if value >= 100
                else f"{value:.1f} {unit}"
                if value >= 10
                else f"{value:.2f} {unit}"
            )
    return f"{seconds * 1e9:.0f} ns"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))

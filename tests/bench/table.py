"""`python tests/bench/table.py RESULTS.json`: one table of what pytest-benchmark has measured.

Rows are workloads, columns engines; a cell is thousand operations a second, from the median round. What isn't about an
engine is listed below it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(results: dict[str, Any]) -> str:
    """The results as a text. Raises ValueError if there are none."""
    benchmarks = results["benchmarks"]
    if not benchmarks:
        raise ValueError("nothing was measured")
    cells: dict[tuple[str, str], str] = {}
    others: list[str] = []
    for bench in benchmarks:
        told = bench["extra_info"]
        median_s = bench["stats"]["median"]
        if "engine" in told and "workload" in told:
            cells[told["workload"], told["engine"]] = thousands(told["operations"] / median_s)
        elif "operations" in told:
            others.append(f"{bench['name']:<50} {thousands(told['operations'] / median_s):>10} thousand/s")
        else:
            others.append(f"{bench['name']:<50} {median_s * 1e3:>10.3f} ms")
    workloads = list(dict.fromkeys(workload for workload, _ in cells))
    columns = list(dict.fromkeys(engine for _, engine in cells))
    lines = []
    if cells:
        widths = [max(9, len(column)) for column in columns]
        lines.append("thousand/s  " + "  ".join(f"{column:>{width}}" for column, width in zip(columns, widths)))
        for workload in workloads:
            row = (f"{cells.get((workload, column), '-'):>{width}}" for column, width in zip(columns, widths))
            lines.append(f"{workload:<11} " + "  ".join(row))
    machine = results["machine_info"]
    lines += ["", *others] if others else []
    lines += ["", f"Python {machine['python_version']}, {machine['cpu'].get('brand_raw', machine['machine'])}"]
    return "\n".join(lines)


def thousands(per_second: float) -> str:
    """Three digits that mean something."""
    value = per_second / 1_000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))

"""Workloads, and what they cost an engine: counted and not timed.

    choosers.py    which key comes next: uniform, zipfian, latest
    workload.py    which operation comes next, and doing it to a store
    counters.py    what a run of operations read, wrote and synced, for each of them
    __main__.py    python -m bench: the engines side by side, in one table

Counts are the same on every machine and on every day, and so can be asserted; times are measured by `metcd bench`.
"""

from bench.choosers import Chooser, Latest, Uniform, Zipfian
from bench.counters import Costs, Run, measure, ranked
from bench.workload import Kind, Mix, Operation, load, operations

__all__ = [
    "Chooser",
    "Costs",
    "Kind",
    "Latest",
    "Mix",
    "Operation",
    "Run",
    "Uniform",
    "Zipfian",
    "load",
    "measure",
    "operations",
    "ranked",
]

"""Which engine fits a workload: two commands, one that counts and one that also measures.

    python -m bench    one mix on our engines, in one small table of counts: the same on every machine and on every day.
                       Chapter 14 of the tutorial builds it, and needs no more of this package than these:

        choosers.py    which key comes next: uniform, zipfian, latest
        workload.py    which operation comes next, and doing it to a store
        counters.py    what a run of operations read, wrote and synced, for each of them
        __main__.py    the table

    metcd bench        engines and peers under workloads of many kinds: times with their intervals, counters, memory,
                       latencies, in processes of their own (server/verbs/bench.py has the command line)

        db_bench.py, ycsb.py     the workloads; mixes are drawn by the choosers and the mix above
        subjects.py, peers.py    what is measured, behind the calls of calls.py
        chunks.py, probe.py      what is timed, and how fast the machine is meanwhile
        run.py, child.py         a process for each subject and repetition, interleaved
        results.py               the document of a run; everything below is made of it
        compare.py               which differences between two runs are real
        terminal.py, report/     tables and pictures

`metcd advise` stands between the two: counted like the first, and timed on request (advise.py). The cost of single parts (a
skiplist's insert, a block's encoding) is measured by `make bench`, and speed under HTTP by `python -m tests.bench.http_load`.
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

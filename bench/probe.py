"""The probe loop: how fast the machine is right now.

    chunk, probe, chunk, probe, ...      time at the probe's fastest = time of a chunk * fastest probe / probes beside it

A shared machine's speed changes by a factor of two within seconds, whatever runs on the other half of a core. A fixed loop
between the chunks of a workload sees it. The loop takes CPU time of its own thread, and not the time on the wall: a store
whose own threads wait for the interpreter's lock would else make the machine look slow, and be given that time back.

Left out: other processes that take the core for a moment. They are in the time of a chunk, and show as a wider interval
over repetitions.
"""

from __future__ import annotations

import time

__all__ = ["TURNS", "probe"]

TURNS = 10_000  # half a millisecond


def probe(turns: int = TURNS) -> float:
    """CPU time of one turn of a fixed loop, in nanoseconds: some 40 to 110 with CPython."""
    began = time.thread_time_ns()
    total = 0
    for turn in range(turns):
        total += turn & 7
    return (time.thread_time_ns() - began) / turns

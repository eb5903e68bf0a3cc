"""What a node says about its engine and its process, for server/metrics.py.

    engine_*     an engine's Stats: sizes, and counters since it was opened, from which a dashboard makes amplification
    process_*    what Prometheus's own libraries say of a process, under their names: /proc/self, where there is one
    build_info   1, and in its labels what runs: metcd, Python, the engine, and whether its accelerations are off

What only one engine counts is `engine_detail{engine,name}`: gauges, because an engine doesn't say which of them only grow.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from engines.kvstore import Stats
from server.metrics import Metrics, describe, labelled

__all__ = ["engine_metrics", "merged", "process_metrics", "stats_of"]

_COUNTERS = {
    "puts": ("engine_puts_total", "Puts that the engine was given."),
    "deletes": ("engine_deletes_total", "Deletions that the engine was given."),
    "gets": ("engine_gets_total", "Gets that the engine was asked for."),
    "user_bytes": ("engine_user_bytes_total", "Bytes of keys and values that the engine was given to write."),
    "bytes_written": (
        "engine_written_bytes_total",
        "Bytes that the engine wrote to files: logs, tables, pages, merges.",
    ),
    "bytes_read": ("engine_read_bytes_total", "Bytes that the engine read from files, its caches not counted."),
    "reads": ("engine_reads_total", "Blocks, pages or records that the engine fetched from files."),
    "fsyncs": ("engine_fsyncs_total", "Calls of fsync by the engine, for files and for directories."),
}
_GAUGES = {
    "disk_bytes": ("engine_disk_bytes", "Bytes of all of the engine's files."),
    "live_bytes": ("engine_live_bytes", "Bytes of them that a reader can reach."),
    "dead_bytes": ("engine_dead_bytes", "Bytes of them that compaction, merge or reuse will get back."),
    "write_amplification": ("engine_write_amplification_ratio", "Bytes written to files for each byte given to write."),
    "space_amplification": ("engine_space_amplification_ratio", "Bytes on disk for each byte that a reader can reach."),
}
describe(dict([*_COUNTERS.values(), *_GAUGES.values()]))
describe(
    {
        "engine_detail": "What only this engine counts, by the name that it gives to it.",
        "build_info": "1; the labels say what runs.",
        "process_start_time_seconds": "When the process was started, in seconds since 1970.",
        "process_cpu_seconds_total": "CPU time of the process, in user and in system mode.",
        "process_resident_memory_bytes": "Memory of the process that is in RAM.",
        "process_virtual_memory_bytes": "Address space of the process, mapped files among it.",
        "process_open_fds": "Files and sockets that the process has open.",
        "process_max_fds": "How many it may have open.",
    }
)


class Telling(Protocol):
    """A part of the node, or a module, that has metrics."""

    @property
    def metrics(self) -> Callable[[], Metrics]: ...


def merged(*parts: Telling) -> Metrics:
    """The metrics of all of them."""
    return {name: value for part in parts for name, value in part.metrics().items()}


def stats_of(stats: Stats) -> dict[str, Any]:
    """An engine's counters, ready for JSON."""
    return {
        **{name: getattr(stats, name) for name in stats.__slots__},
        "write_amplification": round(stats.write_amplification, 3),
        "space_amplification": round(stats.space_amplification, 3),
    }


def engine_metrics(engine: str, stats: Stats) -> Metrics:
    """The engine's counters and sizes, and what runs. O(counters)."""
    named = {name: getattr(stats, field) for field, (name, _) in {**_COUNTERS, **_GAUGES}.items()}
    details = {labelled("engine_detail", engine=engine, name=name): count for name, count in stats.engine.items()}
    return {**named, **details, _build_info(engine): 1}


@cache
def _build_info(engine: str) -> str:
    try:
        ours = version("metcd")
    except PackageNotFoundError:  # packages of a course directory, beside no installed ones
        ours = "unknown"
    plain = str(os.environ.get("METCD_PLAIN") == "1").lower()
    return labelled("build_info", version=ours, python=platform.python_version(), engine=engine, plain=plain)


def process_metrics() -> Metrics:
    """CPU, memory and files of this process, as far as the system tells. Four reads of /proc."""
    found: dict[str, float] = {"process_cpu_seconds_total": time.process_time()}
    found["process_max_fds"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with contextlib.suppress(OSError, ValueError, IndexError):
        found["process_start_time_seconds"] = _start_time()
        with open("/proc/self/statm") as file:
            virtual, resident = map(int, file.read().split()[:2])
        found["process_virtual_memory_bytes"] = virtual * resource.getpagesize()
        found["process_resident_memory_bytes"] = resident * resource.getpagesize()
        found["process_open_fds"] = len(os.listdir("/proc/self/fd")) - 1  # less the one that lists them
    return found


@cache
def _start_time() -> float:
    """When the process was started: ticks after the boot, in field 22 of stat, whose second may have spaces."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/stat") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    return boot + ticks / os.sysconf("SC_CLK_TCK")

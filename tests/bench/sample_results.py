"""Results to draw from, in round figures: three engines and a peer, three repetitions, growth, latency and durability."""

from __future__ import annotations

from collections.abc import Iterable

from bench.results import Counters, Durability, Latency, Machine, Measured, Results, Subject

OPERATIONS = 10_000
PERCENTILES = {"50": 1.0, "90": 2.0, "99": 5.0, "99.9": 20.0}

# for each operation of readrandom and overwrite: µs; reads, bytes read, bytes written, fsyncs
COSTS = {
    "lsm": ((8.0, 0.14, 560, 0, 0), (10.0, 0.0, 0, 420, 0)),
    "btree": ((4.0, 0.10, 410, 0, 0), (50.0, 0.04, 160, 16_000, 0)),
    "bitcask": ((2.0, 1.00, 130, 0, 0), (4.0, 0.0, 0, 160, 0)),
}
PEER = (7.0, 3.0)
ENGINE_COUNTS = {
    "lsm": {"block_lookups": 10_700, "flushes": 2, "compactions": 1, "flushed_bytes": 1_160_000, "compacted_bytes": 1_800_000},
    "btree": {"depth": 3},
    "bitcask": {"merges": 0},
}  # fmt: skip
JITTER = (1.0, 0.97, 1.04)


def sample(
    *, keys: Iterable[int] = (1_000, 10_000), peers: bool = True, latency: bool = True, durability: bool = True
) -> Results:
    """A document with as many of the topics as are asked for."""
    measured = [
        _measured(engine, workload, count, repetition, latency)
        for engine in COSTS
        for count in keys
        for workload in ("readrandom", "overwrite")
        for repetition in range(3)
    ]
    subjects = [
        Subject(name=engine, kind="engine", engine=engine, options={"cache_bytes": 1} if engine == "lsm" else {})
        for engine in COSTS
    ]
    if peers:
        subjects.append(Subject(name="LevelDB", kind="peer", version="1.5.1"))
        for workload, micros in zip(("readrandom", "overwrite"), PEER):
            for repetition, jitter in enumerate(JITTER):
                seconds = micros * 1e-6 * OPERATIONS * jitter
                measured.append(_plain("LevelDB", workload, max(keys), repetition, seconds))
    told = [
        Durability(subject=subject.name, synced=synced, puts=100, writes=100, fsyncs=100 * synced, survives=survives)
        for subject in subjects
        for synced, survives in ((True, "power cut"), (False, "killed process"))
    ]
    return Results(
        command="metcd bench readrandom overwrite --peer plyvel",
        begun="2026-01-02T03:04:05+00:00",
        machine=Machine(processor="Some & Other", cores=2, system="Linux", python="3.11.2", probe_ns=50.0),
        settings={"value_bytes": 100, "key_bytes": 16, "seed": 0, "repetitions": 3, "sync": False},
        subjects=subjects,
        durability=told if durability else [],
        measured=measured,
    )


def _plain(subject: str, workload: str, keys: int, repetition: int, seconds: float) -> Measured:
    return Measured(
        subject=subject, workload=workload, keys=keys, repetition=repetition, operations=OPERATIONS,
        seconds=seconds * 1.1, normalised=seconds, probe_ns=55.0, resident_bytes=4_000_000,
    )  # fmt: skip


def _measured(engine: str, workload: str, keys: int, repetition: int, latency: bool) -> Measured:
    micros, reads, bytes_read, bytes_written, fsyncs = COSTS[engine][workload == "overwrite"]
    micros *= JITTER[repetition] * (keys / 10_000) ** 0.25
    wrote = workload == "overwrite"
    return Measured(
        subject=engine, workload=workload, keys=keys, repetition=repetition, operations=OPERATIONS,
        seconds=micros * 1e-6 * OPERATIONS * 1.1, normalised=micros * 1e-6 * OPERATIONS, probe_ns=55.0,
        counters=Counters(
            pairs=0 if wrote else OPERATIONS, user_bytes=116 * OPERATIONS if wrote else 0, reads=int(reads * OPERATIONS),
            bytes_read=bytes_read * OPERATIONS, bytes_written=bytes_written * OPERATIONS, fsyncs=fsyncs * OPERATIONS,
            engine=ENGINE_COUNTS[engine],
        ),
        latency=Latency(
            count=OPERATIONS, percentiles={name: micros * 1e-6 * times for name, times in PERCENTILES.items()},
            longest=micros * 1e-4, histogram="",
        ) if latency else None,
        disk_bytes=1_500 * keys, live_bytes=116 * keys, resident_bytes=200 * keys + 1_000_000 * repetition,
    )  # fmt: skip

"""The document of `metcd bench --json`."""

from __future__ import annotations

import json

import pytest

from bench.results import Counters, Durability, Latency, Machine, Measured, Results, ResultsFault, Subject


def some_results() -> Results:
    """Small, and with something in each field."""
    counters = Counters(
        pairs=9, user_bytes=116, bytes_written=200, bytes_read=40, reads=3, fsyncs=1, engine={"flushes": 1}
    )
    latency = Latency(count=10, percentiles={"50": 1e-6, "99.9": 2e-5}, longest=3e-5, histogram="HISTFAAA")
    return Results(
        command="metcd bench --keys 10",
        begun="2026-01-02T03:04:05+00:00",
        machine=Machine(processor="some", cores=2, system="Linux", python="3.11.2", probe_ns=53.0),
        settings={"value_bytes": 100, "seed": 0},
        subjects=[
            Subject(name="lsm", kind="engine", engine="lsm", options={"filter": None}),
            Subject(name="plyvel", kind="peer", version="1.5.1"),
        ],
        durability=[
            Durability(subject="lsm", synced=True, puts=100, writes=100, fsyncs=100, survives="power cut"),
            Durability(subject="plyvel", synced=False, puts=100, writes=100, fsyncs=0, survives="killed process"),
        ],
        measured=[
            Measured(
                subject="lsm", workload="readrandom", keys=10, repetition=0, operations=10, seconds=0.2, normalised=0.1,
                probe_ns=60.0, counters=counters, latency=latency, disk_bytes=5_000, live_bytes=1_160, resident_bytes=9_000,
            ),
            Measured(
                subject="plyvel", workload="readrandom", keys=10, repetition=0, operations=10, seconds=0.2,
                normalised=0.1, probe_ns=60.0,
            ),
        ],
    )  # fmt: skip


def test_a_document_is_read_as_it_was_written() -> None:
    results = some_results()
    assert Results.decode(results.encode()) == results
    assert results.measured[0].rate == pytest.approx(100)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("machine", "cores"), "two", 'results.machine.cores: int was expected, and this is "two"'),
        (("measured", 0, "counters", "reads"), None, "results.measured[0].counters.reads: int was expected, and this is null"),
        (("measured", 1, "colour"), "red", "results.measured[1]: nothing is called colour"),
        (("subjects",), {}, "results.subjects: a list was expected, and this is {}"),
        (("durability", 1), [], "results.durability[1]: an object was expected, and this is []"),
        (("format",), "other", "this is no document of `metcd bench --json`: it has no format 'metcd-bench'"),
        (("version",), 2, "this is version 2 of the document, and version 1 is read"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_document_is_said_with_its_place(
    path: tuple[str | int, ...], value: object, sentence: str
) -> None:
    document = json.loads(some_results().encode())
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ResultsFault) as caught:
        Results.decode(json.dumps(document))
    assert str(caught.value) == sentence


def test_what_is_missing_in_a_document_is_named() -> None:
    document = json.loads(some_results().encode())
    del document["machine"]["python"]
    with pytest.raises(ResultsFault, match=r"results\.machine: without python"):
        Results.decode(json.dumps(document))
    with pytest.raises(ResultsFault, match="this is no JSON"):
        Results.decode("{")

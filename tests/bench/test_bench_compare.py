"""Which differences are real."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bench.compare import compare, paired, remarks, unclear, welch
from bench.compare_text import lines
from bench.results import Counters, Machine, Measured, Results, Subject

MACHINE = Machine(processor="some", cores=2, system="Linux", python="3.11", probe_ns=50.0)


def a_run(*, written: int = 250, **rates: Sequence[float]) -> Results:
    """A run of readrandom: for each subject the rates of its repetitions."""
    counters = Counters(pairs=0, user_bytes=116, bytes_written=written * 1_000, bytes_read=0, reads=0, fsyncs=0)
    rows = [
        Measured(
            subject=subject, workload="readrandom", keys=500, repetition=repetition, operations=1_000,
            seconds=1_000 / rate, normalised=1_000 / rate, probe_ns=50.0, counters=counters,
        )
        for subject, each in rates.items()
        for repetition, rate in enumerate(each)
    ]  # fmt: skip
    return Results(
        command="", begun="", machine=MACHINE, settings={}, subjects=[Subject(name=name, kind="engine") for name in rates],
        durability=[], measured=rows,
    )  # fmt: skip


def test_an_interval_holds_the_truth_as_often_as_it_says(rng: random.Random) -> None:
    """95 of 100, whatever the samples' own spreads are; Welch's is a little careful. 3 repetitions of either."""
    held = {welch: 0, paired: 0}
    for _ in range(1_000):
        one = [math.exp(rng.gauss(1.0, 0.05)) for _ in range(3)]
        other = [math.exp(rng.gauss(1.2, 0.10)) for _ in range(3)]
        for interval_of in held:
            interval = interval_of(one, other)
            assert interval is not None
            held[interval_of] += interval.low <= math.exp(0.2) <= interval.high
    assert 930 <= held[paired] <= 970
    assert 930 <= held[welch] <= 990


def test_a_known_interval() -> None:
    """Two samples of three; by hand: variances 0.01 and 0.04 of the logarithms, 2.94 degrees of freedom, t of 2 is 4.303."""
    one = [math.exp(x) for x in (0.9, 1.0, 1.1)]
    other = [math.exp(x) for x in (1.8, 2.0, 2.2)]
    interval = welch(one, other)
    assert interval is not None and interval.ratio == pytest.approx(math.e)
    assert math.log(interval.high) == pytest.approx(1 + 4.303 * math.sqrt(0.05 / 3))
    assert interval.real


def test_pairs_take_out_what_hurts_both() -> None:
    """Each repetition twice as slow as the last, and B always a tenth ahead: paired it is seen, unpaired it can't be."""
    slower = [100.0, 50.0, 25.0]
    ahead = [110.0, 55.1, 27.4]
    by_pairs, apart = paired(slower, ahead), welch(slower, ahead)
    assert by_pairs is not None and by_pairs.real
    assert apart is not None and not apart.real


def test_one_repetition_proves_nothing() -> None:
    assert welch([1.0], [2.0, 2.0]) is None
    assert paired([1.0], [2.0]) is None
    assert list(lines(a_run(lsm=[1.0]), a_run(lsm=[9.0])))[-1].startswith("one repetition has no interval")


def test_what_differs_is_told_with_how_much() -> None:
    changes = compare(
        a_run(lsm=[100, 102, 98], btree=[100, 140, 70]), a_run(written=125, lsm=[150, 153, 147], btree=[110, 90, 120])
    )
    real = {(change.subject, change.quantity) for change in changes if change.interval and change.interval.real}
    counted = "bytes written for each"
    assert real == {("lsm", "operations a second"), ("lsm", counted), ("btree", counted)}
    halved = next(change for change in changes if change.quantity == counted)
    assert (halved.before, halved.after) == (250, 125)
    assert statistics.fmean([change.interval.ratio for change in changes[:1] if change.interval]) == pytest.approx(1.5)


def test_the_lines_name_the_row_and_the_verdict() -> None:
    found = list(lines(a_run(lsm=[1e5, 1.02e5]), a_run(written=125, lsm=[2e5, 2.01e5])))
    assert any(line.startswith("readrandom, 500 keys, lsm") and line.endswith("differs") for line in found)
    assert found[-1] == "2 of 2 figures differ, 1 of 1 rates among them. By chance alone up to 1 would seem to."


def test_from_nothing_to_something_is_a_difference() -> None:
    """A counter that was 0 has no ratio, and must not be passed over."""
    before, after = a_run(written=0, lsm=[1.0, 1.0]), a_run(written=9, lsm=[1.0, 1.0])
    change = next(change for change in compare(before, after) if change.quantity == "bytes written for each")
    assert change.interval is not None and change.interval.real and change.interval.ratio == math.inf
    back = next(change for change in compare(after, before) if change.quantity == "bytes written for each")
    assert back.interval is not None and back.interval.real and back.interval.ratio == 0
    assert compare(before, before)[0].quantity == "operations a second" and len(compare(before, before)) == 1
    assert any("9.00" in line and "inf" not in line and line.endswith("differs") for line in lines(before, after))


def test_a_difference_within_the_noise_is_warned_of() -> None:
    """Of neighbours in the ranking only, and only with an interval."""
    run = a_run(lsm=[100, 130, 90], btree=[105, 95, 125], bitcask=[500, 510, 505])
    (sentence,) = unclear(run)
    assert sentence.startswith(
        "readrandom, 500 keys: the noise is larger than the difference: btree is 1.02 times lsm (0."
    )
    assert "bitcask" not in sentence
    assert list(unclear(a_run(lsm=[100], btree=[101]))) == []


def test_what_makes_runs_hard_to_compare_is_told() -> None:
    before = a_run(lsm=[1.0])
    after = replace(
        before,
        machine=replace(MACHINE, processor="other", probe_ns=80.0),
        settings={"sync": True, "keys": 7},
        subjects=[replace(before.subjects[0], version="2")],
    )
    assert list(remarks(before, before)) == []
    assert list(remarks(before, after)) == [
        "the processor differs: some, and other",
        "the machine was not as fast: the probe loop's fastest turn took 50.0 and 80.0 ns",
        "the setting sync differs: None, and True",
        "the version of lsm differs: , and 2",
    ]


def test_subjects_of_one_run_only_are_named() -> None:
    """Also one of which the other run has no figure because it failed."""
    before = a_run(lsm=[1.0], btree=[1.0], mine=[1.0])
    after = a_run(lsm=[1.0], bitcask=[1.0])
    told = [
        "only the first run has btree, mine: there is nothing to compare them with",
        "only the second run has bitcask: there is nothing to compare it with",
    ]
    assert list(remarks(before, after)) == told
    assert list(lines(before, replace(after, subjects=before.subjects)))[:2] == [
        f"mind: {sentence}" for sentence in told
    ]


def test_runs_without_a_row_in_common_say_so() -> None:
    assert list(lines(a_run(lsm=[1.0]), a_run(btree=[1.0])))[-1].startswith("the two runs have no workload in common")

"""`metcd advise`: the ranking, its reason, and that a flip of the model is one when the mixes are really run."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest

from bench.advice_text import answer, question_line
from bench.advise import Advice, Disk, Priced, Question, advise, price, run_mix, store_options
from bench.counters import Costs
from bench.flips import Stretch, with_share
from bench.subjects import engine_subject
from bench.workload import Kind, Mix
from server.cli import main

ENGINES = [engine_subject(name) for name in ("btree", "bitcask")]
LSM = engine_subject("lsm")
# pairs of a kilobyte, so that a scan of ten of them is worth something to an engine that keeps neighbours together
QUESTION = Question(mix=Mix(put=0.5, scan=0.5), keys=1_000, value_bytes=1_000, theta=0.0, cache_share=0.02)


@cache
def counted() -> Advice:
    return advise(ENGINES, QUESTION, by_counting=True)


def test_a_flip_is_one_when_the_mixes_are_really_run() -> None:
    """The model prices each kind apart. On both sides of its flip, the mixes themselves are run, and counted."""
    first, second = counted().flips[Kind.SCAN]
    assert 0.15 < second.begins < 0.85, "there is room on both sides"
    for share, winner, loser in (
        (second.begins - 0.12, first.engine, second.engine),
        (second.begins + 0.12, second.engine, first.engine),
    ):
        question = replace(QUESTION, mix=with_share(QUESTION.mix, Kind.SCAN, share))
        took = {each.name: run_mix(each, question) for each in ENGINES}
        assert took[winner] < took[loser], f"at {share:.0%} scans: {took}"


def test_what_is_counted_is_the_same_each_time() -> None:
    """Also of lsm, whose threads would otherwise compact when they get to it."""
    question = replace(QUESTION, keys=300)
    once, again = (price(LSM, question, by_counting=True) for _ in range(2))
    assert once == again and once.mix_costs.bytes_written > 0


def test_what_is_counted_waits_for_nobody_and_has_small_caches() -> None:
    """Compactions in threads would come when they get to it. What is timed has the engine's own options."""
    assert store_options(LSM, QUESTION, counted=True) == {
        "sync": False,
        "background": False,
        "cache_bytes": 1_000 * 1_016 // 50,
    }
    assert store_options(LSM, QUESTION, counted=False) == {"sync": False}


def test_a_scan_of_a_bitcask_reads_a_record_for_each_pair() -> None:
    """The reason that stands in the answer, from the engine's counters."""
    scans = {engine: counted().priced[engine].costs[Kind.SCAN].reads for engine in ("btree", "bitcask")}
    assert 9 < scans["bitcask"] <= 10
    assert scans["btree"] < scans["bitcask"]


def test_a_disk_takes_time_for_reads_bytes_and_syncs() -> None:
    costs = Costs(reads=2, bytes_read=4_000, bytes_written=1_000, fsyncs=0.5, write_amplification=9)
    assert Disk(read=1e-4, byte=1e-9, sync=1e-3).seconds(costs) == pytest.approx(2e-4 + 5e-6 + 5e-4)


def test_the_kind_that_decides_is_the_one_with_the_largest_difference() -> None:
    """Two gets at 1 and 2 µs make less of a mix than one scan in ten at 20 and 50."""
    nothing = Costs(0, 0, 0, 0, 0)

    def priced(get: float, scan: float, put: float) -> Priced:
        return Priced({Kind.GET: get, Kind.SCAN: scan, Kind.PUT: put}, {}, 0.0, nothing)

    advice = Advice(
        Question(mix=Mix(get=0.9, scan=0.1)), ["a", "b"], {"a": priced(1, 20, 9), "b": priced(2, 50, 99)}, {}
    )
    assert advice.deciding is Kind.SCAN
    assert advice.sum_of("a") == pytest.approx(2.9)


def test_the_answer_says_who_why_and_until_when() -> None:
    costs = dict.fromkeys(Kind, Costs(0, 0, 0, 0, 0))
    scans = {"btree": Costs(1.25, 5_000, 0, 0, 0), "bitcask": Costs(10, 1_300, 0, 0, 0)}
    prices = {"btree": dict.fromkeys(Kind, 4e-6), "bitcask": dict.fromkeys(Kind, 1e-6) | {Kind.SCAN: 20e-6}}
    advice = Advice(
        Question(mix=Mix(get=0.5, scan=0.5)),
        ["btree", "bitcask"],
        {name: Priced(prices[name], costs | {Kind.SCAN: scans[name]}, 5e-6, scans[name]) for name in prices},
        {Kind.GET: [Stretch(0.0, "btree")], Kind.SCAN: [Stretch(0.0, "bitcask"), Stretch(0.35, "btree")]},
    )
    assert question_line(advice.question).startswith("50 % gets, 50 % scans; 50,000 keys with values of 100 bytes, zip")
    lines = answer(advice, by_counting=True)
    assert lines[0].startswith("Data larger than memory: btree.")
    assert lines[-3:] == [
        "btree is before bitcask by its scans. One of btree reads 1.25 pages; one of bitcask reads 10.00 records.",
        "With few scans, bitcask; from 35 % scans on, btree.",
        "No share of gets changes that.",
    ]
    timed = answer(advice, by_counting=False)
    assert timed[0].startswith("Data in memory: btree.")
    assert "One of btree takes 4.00 µs and reads 1.25 pages; one of bitcask takes 20.0 µs and" in timed[-3]


def test_engines_that_cost_the_same_are_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--engine", "lsm", "--engine", "lsm,compaction_process=true", "--counted", "--keys", "150"]
    assert main(["advise", *words]) == 0
    assert "lsm and lsm compaction_process=true cost the same." in capsys.readouterr().out


def test_the_command_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--keys", "200", "--mix", "get=3,put=1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("75 % gets, 25 % puts; 200 keys")
    assert "Data larger than memory: " in printed and "Data in memory: " in printed


def test_the_comparison_advises_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--advise", "--keys", "100", "--mix", "get=3,put=1", "--engine", "memory", "--engine", "bitcask"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("75 % gets, 25 % puts; 100 keys")
    assert main([*words, "--peer", "sqlite3"]) == 2
    assert main(["bench", "--advise", "--engine", "lsm"]) == 2
    assert (
        "--advise is about engines" in (error := capsys.readouterr().err) and "one engine is the best of one" in error
    )


def test_the_command_answers_programs(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--engine",
        "lsm,bloom_bits_per_key=5",
        "--engine",
        "memory",
        "--counted",
        "--keys",
        "2e2",
        "--zipf",
        "0",
        "--json",
    ]
    assert main(["advise", *words]) == 0
    told = json.loads(capsys.readouterr().out)["counted"]
    assert sorted(told["ranking"]) == ["lsm bloom_bits_per_key=5", "memory"]
    assert told["priced"]["memory"]["costs"]["get"]["reads"] == 0
    assert set(told["flips"]) == {"get", "put", "insert", "delete", "scan"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mix", "colour=1"], "a mix is written get=90,put=8,scan=2"),
        (["--mix", "get=x"], "the share of get in a mix is a number"),
        (["--mix", "get=nan"], "at least 0, and one is more"),
        (["--mix", "get=0"], "at least 0, and one is more"),
        (["--mix", "get=1,get=2"], "has get twice"),
        (["--keys", "many"], "this is a whole number from 1 to 100,000,000, and not 'many'"),
        (["--keys", "0"], "a whole number from 1 to"),
        (["--keys", "1e12"], "to 100,000,000, and not '1e12'"),
        (["--keys", "1.5"], "this is a whole number, and not '1.5'"),
        (["--value", "2e6"], "a whole number from 0 to 1,048,576"),
        (["--zipf", "11"], "from 0 to 10"),
        (["--zipf", "nan"], "from 0 to 10"),
        (["--cache", "2"], "from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["advise", *words])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "lsm"], "two or more"),
        (["--engine", "lsm", "--engine", "nosuch"], "no engine is called 'nosuch'"),
        (["--engine", "lsm", "--engine", "lsm"], "lsm is to be measured twice"),
    ],
)
def test_one_engine_or_an_unknown_one_is_refused(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", *words]) == 2
    assert sentence in capsys.readouterr().err

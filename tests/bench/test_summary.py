"""What a document says, sorted by what is to be shown; and the sentences that are made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import reasons
from bench.results import Durability, Latency, Measured, Results
from bench.summary import Spread, amplifications, growth, latencies, memory, panels
from tests.bench.sample_results import sample


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)


def test_a_panel_has_the_largest_number_of_keys_that_all_were_measured_with() -> None:
    found = panels(sample(peers=False))
    assert [(panel.workload, panel.keys) for panel in found] == [("readrandom", 10_000), ("overwrite", 10_000)]
    fastest = found[0].ranked[0]
    assert (fastest.subject, fastest.rate.middle) == ("bitcask", pytest.approx(500_000))
    results = sample()
    gone = {("lsm", 10_000), ("LevelDB", 10_000)}
    without = [each for each in results.measured if (each.subject, each.keys) not in gone]
    assert panels(replace(results, measured=without))[0].keys == 1_000


def test_what_is_done_once_has_a_time() -> None:
    results = sample()
    once = [
        replace(each, workload="recover", operations=1)
        for each in results.measured
        if (each.workload, each.keys) == ("readrandom", 10_000)
    ]
    panel = panels(replace(results, measured=once))[0]
    assert panel.ranked[0].subject == "bitcask"
    assert panel.text(panel.figure(panel.ranked[0]).middle) == "20.0 ms"
    see, _ = reasons.throughput_sentences(results, panel)
    assert see.startswith("bitcask takes 20.0 ms; it is 2.00 times as fast as")


def test_growth_needs_two_numbers_of_keys() -> None:
    grown = growth(sample())
    assert [each.workload for each in grown] == ["readrandom", "overwrite"]
    assert [curve.subject for curve in grown[0].seconds] == ["lsm", "btree", "bitcask"]
    assert grown[0].seconds[0].factor == pytest.approx(10**0.25)
    assert growth(sample(keys=(10_000,))) == []


def test_growth_within_the_noise_is_said_to_be() -> None:
    results = sample()
    see, why = reasons.growth_sentences(results, growth(results)[0])
    assert (
        see
        == "From 1,000 to 10,000 keys an operation takes so many times as long: lsm 1.78, btree 1.78 and bitcask 1.78."
    )
    assert why.startswith("For each operation the bytes read from files went: lsm from 560 to 560")
    assert "That doesn't explain" in why
    noise = replace(results, measured=[noisy(each) for each in results.measured])
    see, why = reasons.growth_sentences(noise, growth(noise)[0])
    assert "as long: within the noise, lsm 1.78, " in see
    assert "That doesn't explain" not in why


def test_a_latency_curve_rises_to_the_longest() -> None:
    curve = latencies(sample())[0].curves[0]
    assert [share for share, _ in curve.points] == [0.5, 0.9, 0.99, 0.999, 1 - 1 / 10_000]
    assert curve.points[-1][1].middle == pytest.approx(8e-4)
    assert latencies(sample(latency=False)) == []


def test_amplification_is_bytes_for_each_byte_that_somebody_wanted() -> None:
    found, where = amplifications(sample())
    assert where == {"write": "overwrite", "read": "readrandom", "space": "overwrite"}
    lsm = found[0]
    assert (lsm.subject, lsm.write, lsm.read, lsm.space) == ("lsm", 420 / 116, 560 / 116, 1_500 / 116)
    assert "LevelDB" not in {each.subject for each in found}, "it counts nothing"


def test_memory_is_of_the_workload_that_made_the_process_largest() -> None:
    found = {each.subject: each for each in memory(sample())}
    assert found["lsm"].resident == Spread(3_000_000, 2_000_000, 4_000_000, 3)
    assert found["LevelDB"].resident.middle == 4_000_000


# ---- sentences ----------------------------------------------------------------------------------------------------------


def sentences(results: Results, workload: str) -> tuple[str, str]:
    panel = next(panel for panel in panels(results) if panel.workload == workload)
    return reasons.throughput_sentences(results, panel)


def test_who_is_ahead_and_why_the_counters_dont_say() -> None:
    see, why = sentences(sample(), "readrandom")
    assert (
        see
        == "bitcask does 500 thousand a second; it is 2.00 times as fast as btree, 3.50 times as fast as LevelDB and 4.00 times as fast as lsm."
    )
    assert (
        "bitcask read 1.00 records from files, btree looked at 3.00 pages, 0.10 of them read from files and lsm looked at 1.07 blocks"
        in why
    )
    assert "0.14 of them read from files" in why
    assert "The order of the times is that of the bytes read from files." in why
    assert why.endswith("LevelDB counts nothing.")


def test_counters_that_dont_explain_the_times_are_said_not_to() -> None:
    _, why = sentences(sample(), "overwrite")
    assert "The order of the times is that of the bytes written." in why
    results = sample()
    measured = [
        replace(each, normalised=each.normalised * (20 if each.subject == "lsm" else 1)) for each in results.measured
    ]
    _, why = sentences(replace(results, measured=measured), "overwrite")
    assert "The bytes written don't explain all of it: btree is ahead of lsm with more" in why


def noisy(each: Measured) -> Measured:
    """One subject's slow repetition is another one's fast one."""
    slow = {"bitcask": 1, "btree": 2}
    return replace(each, normalised=each.normalised * (1, 5, 9)[(each.repetition + slow.get(each.subject, 0)) % 3])


def test_what_slows_all_of_a_repetition_is_no_noise_between_them() -> None:
    results = sample()
    slowed = [replace(each, normalised=each.normalised * (1, 5, 9)[each.repetition]) for each in results.measured]
    assert "it is 2.00 times as fast as btree" in sentences(replace(results, measured=slowed), "readrandom")[0]


def test_noise_that_is_larger_than_the_difference_is_no_difference() -> None:
    results = sample()
    see, why = sentences(replace(results, measured=[noisy(each) for each in results.measured]), "readrandom")
    assert see == "bitcask, btree, LevelDB and lsm are level: the noise is larger than what they differ by."
    assert "there is no order to explain" in why


def test_one_repetition_ranks_nobody() -> None:
    results = sample()
    once = replace(results, measured=[each for each in results.measured if each.repetition == 0])
    see, why = sentences(once, "readrandom")
    assert see.endswith("one repetition can't say whether that is noise.")
    assert "there is no order to explain" in why


def test_what_the_document_has_nothing_for_is_said() -> None:
    assert reasons.absent(sample()) == []
    bare = sample(keys=(10_000,), peers=False, latency=False, durability=False)
    assert [sentence.split(":")[0] for sentence in reasons.absent(bare)] == [
        "No latencies",
        "No growth",
        "No durability",
        "No peers",
    ]


def test_a_tail_is_explained_by_what_went_on_meanwhile() -> None:
    results = sample()
    measured = [
        replace(each, latency=replace(each.latency, longest=1.0, percentiles=each.latency.percentiles | {"99.9": 0.01}))
        if each.subject == "lsm" and each.latency
        else each
        for each in results.measured
    ]
    results = replace(results, measured=measured)
    overwrite = latencies(results)[1]
    see, why = reasons.latency_sentences(results, overwrite)
    assert "The longest tail is lsm's, 1,000 times its median." in see
    assert why.startswith("lsm counted 2 flushes and 1 compaction meanwhile")
    few = replace(results, measured=[replace(each, latency=few_of(each)) for each in measured])
    assert "and one in a hundred more than" in reasons.latency_sentences(few, latencies(few)[1])[0]


def few_of(each: Measured) -> Latency | None:
    """So few operations that nobody can say what one in a thousand took."""
    return replace(each.latency, count=500) if each.latency else None


def test_who_survives_a_power_cut_is_said_once() -> None:
    memory_only = Durability(subject="memory", synced=True, puts=10, writes=0, fsyncs=0, survives="nothing")
    lsm = Durability(subject="lsm", synced=True, puts=10, writes=0, fsyncs=10, survives="power cut")
    assert reasons.durability_sentences([memory_only])[0] == "No put survives a power cut."
    see, why = reasons.durability_sentences([lsm, memory_only])
    assert see == "A put that is asked to be synced survives a power cut with lsm, and not with memory."
    assert why.endswith("lsm 1.00 and memory 0.00.")

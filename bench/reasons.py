"""What a picture shows, in one sentence, and why, in another: both made from the document and from nothing else.

    see    who is ahead, and by how much; or that the repetitions differ by more than the subjects
    why    what the engines counted: blocks, pages and records read, bytes written, fsyncs

1. A cause is only named if it was counted. Where the order by the counters isn't the order by the clock, `why` says so.
2. Subjects that the repetitions don't tell apart aren't ranked.
3. A subject that counts nothing (a peer) is never explained.
"""

from __future__ import annotations

from itertools import pairwise

from bench.quantities import duration, factor, listed, number, size
from bench.results import Counters, Durability, Results
from bench.summary import (
    Amplification,
    Curve,
    Growth,
    Latencies,
    Memory,
    Panel,
    Row,
    amplifications,
    growth,
    latencies,
    memory,
    panels,
)

__all__ = [
    "MAPPED",
    "absent",
    "amplification_sentences",
    "at_share",
    "durability_sentences",
    "growth_sentences",
    "latency_sentences",
    "machine_sentence",
    "memory_growth_sentences",
    "memory_sentences",
    "throughput_sentences",
]

UNITS = {"lsm": "blocks", "btree": "pages", "bitcask": "records"}  # what `reads` counts
GETS = ("readrandom", "readmissing", "ycsb-c")  # each operation is one get
# what else went on meanwhile: the counter, and what one of it is called
HAPPENED = {
    "flushes": "flush",
    "compactions": "compaction",
    "merges": "merge",
    "write_slowdowns": "slowed write",
    "write_stops": "stopped write",
}
HELD = ("cached_blocks", "cached_pages", "memtable_bytes", "cache_bytes")  # what memory is for, where an engine says so
SAME = 1.02  # two counts that differ by less are the same


def unit(results: Results, subject: str) -> str:
    """What this subject reads: blocks, pages or records."""
    engines = {each.name: each.engine for each in results.subjects}
    return UNITS.get(engines.get(subject, ""), "reads")


def looked_at(row: Row) -> float | None:
    """How many blocks or pages an operation looked at, in caches or in files; None if this engine doesn't count that.

    A get goes down a tree of pages from its root to a leaf, and so looks at as many as the tree is deep.
    """
    counters = row.counters
    assert counters is not None, "only rows that count come here"
    for name in ("block_lookups", "page_lookups"):
        if name in counters.engine:
            return counters.engine[name] / row.operations
    return float(counters.engine.get("depth", 0)) or None if row.measured[0].workload in GETS else None


# ---- throughput ---------------------------------------------------------------------------------------------------------


def throughput_sentences(results: Results, panel: Panel) -> tuple[str, str]:
    """(what to see, why) of one workload."""
    return _ahead(panel), _why_ahead(results, panel)


def _ahead(panel: Panel) -> str:
    first, *others = panel.ranked
    figure = panel.text(panel.figure(first).middle)
    said = f"{first.subject} takes {figure}" if panel.once else f"{first.subject} does {figure} thousand a second"
    if not others:
        return f"{said}; nothing stands beside it."
    if first.rate.count == 1:
        times = first.rate.middle / others[0].rate.middle
        return f"{said}, {factor(times)} times as fast as {others[0].subject}; one repetition can't say whether that is noise."
    level = [row.subject for row in others if not first.differs(row)]
    if level:
        said = f"{listed([first.subject, *level])} are level: the noise is larger than what they differ by"
    if rest := [row for row in others if first.differs(row)]:
        ratios = [f"{factor(first.rate.middle / row.rate.middle)} times as fast as {row.subject}" for row in rest]
        return f"{said}; {f'{first.subject} is' if level else 'it is'} {listed(ratios)}."
    return f"{said}."


def _why_ahead(results: Results, panel: Panel) -> str:
    counted = [row for row in panel.ranked if row.counters is not None]
    silent = [row.subject for row in panel.rows if row.counters is None]
    if not counted:
        return "Nobody here counts what it does, so the times stand alone."
    wrote = any(row.counters.user_bytes for row in counted if row.counters)
    said = [_costs(results, row, wrote) for row in counted]
    sentence = f"For each operation {listed(said)}. {_verdict(counted, wrote)}"
    return f"{sentence} {listed(silent)} count{'s' if len(silent) == 1 else ''} nothing." if silent else sentence


def _costs(results: Results, row: Row, wrote: bool) -> str:
    """What one operation cost this subject: "bitcask read 1.00 records"."""
    counters = row.counters
    assert counters is not None, "only rows that count come here"
    count, what = row.operations, unit(results, row.subject)
    said = []
    if wrote:
        said.append(f"wrote {number(counters.bytes_written / count)} bytes")
    if counters.fsyncs / count >= 0.005:
        said.append(f"synced {factor(counters.fsyncs / count)} times")
    if not wrote or counters.reads / count >= 0.005:
        seen = looked_at(row)
        fetched = factor(counters.reads / count) if counters.reads else "none"
        if seen is not None and seen * count >= counters.reads:  # what is read at the opening nobody looked at
            said.append(f"looked at {factor(seen)} {what}, {fetched} of them read from files")
        else:
            said.append(f"read {fetched} {what} from files" if counters.reads else f"read no {what} from files")
    return f"{row.subject} {listed(said)}"


def cost(row: Row, wrote: bool) -> tuple[str, float]:
    """The count by which subjects are compared in this workload, and its name: fsyncs, bytes written, or bytes read."""
    counters = row.counters
    assert counters is not None, "only rows that count come here"
    if wrote and counters.fsyncs * 2 > row.operations:
        return "fsyncs", counters.fsyncs / row.operations
    if wrote:
        return "bytes written", counters.bytes_written / row.operations
    return "bytes read from files", counters.bytes_read / row.operations


def _verdict(counted: list[Row], wrote: bool) -> str:
    """Whether the counters are the reason. counted: the fastest first."""
    pairs = [(fast, slow) for fast, slow in pairwise(counted) if fast.differs(slow)]
    if not pairs:
        return "Of those that count, none is told from the next one by its times, so there is no order to explain."
    against = []
    for fast, slow in pairs:
        (name, less), (other, more) = cost(fast, wrote), cost(slow, wrote)
        if name != other or less * SAME >= more:
            against.append((fast, slow, "more" if less > more * SAME else "no less"))
    name = cost(counted[0], wrote)[0]
    if not against:
        return f"The order of the times is that of the {name}."
    fast, slow, how = against[0]
    told = f"The {name} don't explain all of it: {fast.subject} is ahead of {slow.subject} with {how}"
    return f"{told}; what its code does for each operation isn't counted."


# ---- latency ------------------------------------------------------------------------------------------------------------


RARE = {0.999: "one in a thousand", 0.99: "one in a hundred", 0.9: "one in ten", 0.5: "the other half"}


def latency_sentences(results: Results, latency: Latencies) -> tuple[str, str]:
    """(what to see, why) of one workload's latencies: medians, and the rarest that all curves have a point for."""
    share = next(share for share in RARE if all(_has(curve, share) for curve in latency.curves) or share == 0.5)
    said, tails = [], {}
    for curve in latency.curves:
        half, rare = at_share(curve, 0.5), at_share(curve, share)
        tails[curve.subject] = rare / half
        said.append(f"{curve.subject} {duration(half)} and {duration(rare)}")
    worst = max(tails, key=lambda subject: tails[subject])
    see = f"Half of the operations took at most, and {RARE[share]} more than: {'; '.join(said)}."
    see = f"{see} The longest tail is {worst}'s, {number(tails[worst])} times its median."
    rows = {row.subject: row for row in _panel_rows(results, latency.workload) if row.counters is not None}
    counted = [subject for subject in tails if subject in rows]
    if not counted:
        return see, "Nobody here counts what it does, so no tail has a reason."
    explained = max(counted, key=lambda subject: tails[subject])
    why = _why_a_tail(results, rows[explained])
    if explained != worst:
        why = f"{worst} counts nothing. Of those that count, {explained}'s is the longest: {why}"
    return see, why


def _why_a_tail(results: Results, row: Row) -> str:
    counters, subject = row.counters, row.subject
    assert counters is not None, "only rows that count come here"
    if counters.fsyncs * 2 > row.operations:
        return (
            f"{subject} waits for {factor(counters.fsyncs / row.operations)} fsyncs an operation, so the disk decides."
        )
    if went_on := [_several(counters.engine[name], one) for name, one in HAPPENED.items() if counters.engine.get(name)]:
        return f"{subject} counted {listed(went_on)} meanwhile, which some operations wait for or share the processor with."
    reads = counters.reads / row.operations
    if 0.005 <= reads < 0.9:
        what = unit(results, subject)
        return f"{subject} read {factor(reads)} {what} from files for each operation, so most find theirs in a cache."
    return f"{subject}'s counters don't explain it; the machine and Python's own pauses are in it."


def _has(curve: Curve, share: float) -> bool:
    return any(abs(x - share) < 1e-9 for x, _ in curve.points)


def _several(count: int, one: str) -> str:
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}{'es' if one.endswith('sh') else 's'}"


def at_share(curve: Curve, share: float) -> float:
    """The time of the last known percentile that isn't above this one."""
    return [spread.middle for x, spread in curve.points if x <= share + 1e-9][-1]


def _panel_rows(results: Results, workload: str) -> list[Row]:
    return next((panel.rows for panel in panels(results) if panel.workload == workload), [])


# ---- growth -------------------------------------------------------------------------------------------------------------


def growth_sentences(results: Results, growth: Growth) -> tuple[str, str]:
    """(what to see, why) of one workload against the number of keys."""
    first, last = growth.seconds[0].points[0][0], growth.seconds[0].points[-1][0]
    grown = [f"{curve.subject} {factor(curve.factor)}" for curve in growth.seconds if not _may_be_level(curve)]
    noise = [f"{curve.subject} {factor(curve.factor)}" for curve in growth.seconds if _may_be_level(curve)]
    told = [listed(grown)] if grown else []
    told += [f"within the noise, {listed(noise)}"] if noise else []
    see = f"From {first:,.0f} to {last:,.0f} keys an operation takes so many times as long: {'; '.join(told)}."
    counted: list[tuple[Curve, str, float, float]] = []
    for curve in growth.seconds:
        small, large = (_cost_at(results, growth.workload, curve.subject, curve.points[end][0]) for end in (0, -1))
        if small is not None and large is not None:
            counted.append((curve, small[0], small[1], large[1]))
    if not counted:
        return see, "Nobody here counts what it does, so the times stand alone."
    told = [f"{curve.subject} from {number(few)} to {number(many)}" for curve, _, few, many in counted]
    why = f"For each operation the {counted[0][1]} went: {listed(told)}."
    curve, _, few, many = max(counted, key=lambda each: each[0].factor)
    if curve.factor > 1.2 and many <= few * SAME and not _may_be_level(curve):
        why += f" That doesn't explain {curve.subject}'s: what more keys cost in memory isn't counted."
    return see, why


def _may_be_level(curve: Curve) -> bool:
    """Whether the ranges of the first and the last point meet."""
    few, many = curve.points[0][1], curve.points[-1][1]
    return few.low <= many.high and many.low <= few.high


def _cost_at(results: Results, workload: str, subject: str, keys: float) -> tuple[str, float] | None:
    """The bytes that an operation of this subject wrote, or read, with so many keys."""
    for each in results.measured:
        if (each.workload, each.subject, each.keys) == (workload, subject, keys) and each.counters is not None:
            if each.counters.user_bytes:
                return "bytes written", each.counters.bytes_written / each.operations
            return "bytes read from files", each.counters.bytes_read / each.operations
    return None


# ---- amplification, memory, durability -----------------------------------------------------------------------------------


def amplification_sentences(results: Results, found: list[Amplification], where: dict[str, str]) -> tuple[str, str]:
    """(what to see, why) of the triangle: who is least in each corner, and what the writes went into."""
    said = []
    for name in ("write", "read", "space"):
        known = {each.subject: dict(each.known)[name] for each in found if name in dict(each.known)}
        if len(known) > 1:
            least, most = min(known, key=lambda each: known[each]), max(known, key=lambda each: known[each])
            said.append(f"{name}: {least} {factor(known[least])} to {most} {factor(known[most])}")
    see = (
        f"From the least to the most, {'; '.join(said)}."
        if said
        else "One subject alone has nothing to be compared with."
    )
    parts = []
    for row in _panel_rows(results, where.get("write", "")):
        if row.counters is not None and row.counters.user_bytes:
            parts.append(_written_into(row, row.counters))
    return (
        see,
        f"For each byte put: {'; '.join(parts)}." if parts else "No bytes were counted while something was written.",
    )


def _written_into(row: Row, counters: Counters) -> str:
    """Where the bytes went: "lsm wrote 1.06 to its log, 1.02 in flushes and 1.50 in compactions"."""
    bytes_ = counters.user_bytes
    parts = [
        (counters.engine.get("flushed_bytes", 0), "flushes"),
        (counters.engine.get("compacted_bytes", 0), "compactions"),
    ]
    told = [f"{factor(count / bytes_)} in {what}" for count, what in parts if count]
    rest = counters.bytes_written - sum(count for count, _ in parts)
    if told:
        return f"{row.subject} wrote {listed([f'{factor(rest / bytes_)} to its log', *told])}"
    merges = counters.engine.get("merges")
    again = f", with {_several(merges, 'merge')}" if merges else ""
    return f"{row.subject} wrote {factor(counters.bytes_written / bytes_)}{again}"


def memory_sentences(results: Results, found: list[Memory]) -> tuple[str, str]:
    """(what to see, why) of the memory."""
    order = sorted(found, key=lambda each: each.resident.middle)
    said = [
        f"{each.subject} {size(each.resident.middle)} ({number(each.resident.middle / max(each.keys, 1))} a key)"
        for each in order
    ]
    see = f"The process grew by: {listed(said)}."
    if len(order) > 1 and order[0].resident.high >= order[-1].resident.low:
        see += " The ranges of all of them meet."
    reasons = []
    for each in order:
        row = next((row for row in _panel_rows(results, each.workload) if row.subject == each.subject), None)
        if row is not None and row.counters is not None:
            held = row.counters.engine
            known = [f"{held[name]:,} {name.replace('_', ' ')}" for name in HELD if held.get(name)]
            if known:
                reasons.append(f"{each.subject} held {listed(known)}")
    if not reasons:
        return see, "No counter says what the memory was for."
    return see, f"At the end {'; '.join(reasons)}. How large these are in memory isn't counted."


def memory_growth_sentences(results: Results, growth: Growth) -> tuple[str, str]:
    """(what to see, why) of the memory against the number of keys."""
    said, a_key = [], []
    for curve in growth.resident:
        (few, small), (many, large) = curve.points[0], curve.points[-1]
        said.append(f"{curve.subject} {size(small.middle)} and {size(large.middle)}")
        a_key.append(f"{curve.subject} {number((large.middle - small.middle) / (many - few))}")
    few, many = growth.resident[0].points[0][0], growth.resident[0].points[-1][0]
    see = f"With {few:,.0f} and with {many:,.0f} keys the process grows by: {'; '.join(said)}."
    return see, f"Bytes for each key more: {listed(a_key)}. What they hold isn't counted."


MAPPED = "A write through a mapping makes no call, and counts 0; the system has it at once."


def durability_sentences(found: list[Durability]) -> tuple[str, str]:
    """(what to see, why) of the table."""
    strong = [each.subject for each in found if each.synced and each.survives == "power cut"]
    weak = [each.subject for each in found if each.synced and each.survives != "power cut"]
    if strong:
        see = f"A put that is asked to be synced survives a power cut with {listed(strong)}"
        see += f", and not with {listed(weak)}." if weak else "."
    else:
        see = "No put survives a power cut."
    lazy = [f"{each.subject} {factor(each.fsyncs / each.puts)}" for each in found if each.synced and each.puts]
    why = (
        f"Fsyncs counted for each synced put, from the system calls: {listed(lazy)}."
        if lazy
        else "No synced put was counted."
    )
    return see, why


def absent(results: Results) -> list[str]:
    """A sentence for each topic that this document has nothing for."""
    sentences = []
    if not panels(results):
        sentences.append("No throughput: nothing was measured.")
    if not amplifications(results)[0]:
        sentences.append("No amplification: no subject counted bytes.")
    if not latencies(results):
        sentences.append("No latencies: single operations were not timed.")
    if not growth(results):
        sentences.append("No growth: no workload was measured with two numbers of keys.")
    if not memory(results):
        sentences.append("No memory: no process was looked at.")
    if not results.durability:
        sentences.append("No durability: system calls were not counted.")
    if not any(subject.kind == "peer" for subject in results.subjects):
        sentences.append("No peers: nothing but engines behind metcd's contract was measured.")
    return sentences


def machine_sentence(results: Results) -> str:
    """How quiet the machine was, by the probe loop beside the measurements."""
    probes = sorted(each.probe_ns for each in results.measured)
    if not probes or results.machine.probe_ns <= 0:
        return "Nothing is known of how quiet the machine was."
    middle, worst = probes[len(probes) // 2], probes[-1]
    slower = f"{factor(middle / results.machine.probe_ns)} and at worst {factor(worst / results.machine.probe_ns)}"
    return f"Beside the measurements a probe loop took {slower} times what it took at its fastest; times are as at its fastest."

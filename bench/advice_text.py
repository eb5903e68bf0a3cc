"""An advice in sentences and tables, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.advise import Advice, Priced, Question
from bench.counters import Costs
from bench.flips import Stretch
from bench.workload import Kind

__all__ = ["answer", "question_line"]

# what one read of an engine fetches
READS = {"lsm": "blocks", "btree": "pages", "bitcask": "records"}
PLURALS = {kind: f"{kind.value}s" for kind in Kind}


def question_line(question: Question) -> str:
    """What is asked about: "90 % gets, 8 % puts, 2 % scans of 50,000 keys with values of 100 bytes, …"."""
    shares = ", ".join(f"{share:.3g} % {PLURALS[kind]}" for kind, share in _percent(question))
    chooser = f"zipfian ({question.theta:g})" if question.theta else "uniform"
    synced = "each write synced" if question.sync else "writes not synced"
    return f"{shares}; {question.keys:,} keys with values of {question.value_bytes:,} bytes, {chooser}, {synced}"


def _percent(question: Question) -> Iterator[tuple[Kind, float]]:
    return ((kind, 100 * share) for kind, share in question.mix.shares.items() if share)


def answer(advice: Advice, *, by_counting: bool) -> list[str]:
    """The ranking, its reason and the flips: of one half of the answer."""
    where = "Data larger than memory" if by_counting else "Data in memory"
    how = (
        f"counted: 0.1 ms for a read, 2 ns for a byte, 1 ms for a sync; caches for {100 * advice.question.cache_share:.3g} % of the data"
        if by_counting
        else "timed on this machine, with the engines' own options"
    )
    return [
        f"{where}: {advice.ranking[0]}. ({how})",
        "",
        *_table(advice),
        "",
        _reason(advice, by_counting=by_counting),
        *_flips(advice),
    ]


def _table(advice: Advice) -> Iterator[str]:
    """µs an operation, of the mix by sum and really run, and of each kind; then what the mix read and wrote."""
    kinds = [kind for kind, share in advice.question.mix.shares.items() if share]
    heads = ["by sum", "really run", *(kind.value for kind in kinds), "reads", "bytes read", "written", "fsyncs"]
    width = 2 + max(8, *map(len, advice.ranking))
    yield f"  {'µs each':<{width}}" + "".join(f"{head:>11}" for head in heads)
    for engine in advice.ranking:
        priced = advice.priced[engine]
        micros = [advice.sum_of(engine), priced.mix_price, *(priced.prices[kind] for kind in kinds)]
        yield f"  {engine:<{width}}" + "".join(f"{_short(1e6 * each):>11}" for each in micros) + _counters(priced)


def _counters(priced: Priced) -> str:
    costs = priced.mix_costs
    return f"{costs.reads:>11.2f}{costs.bytes_read:>11,.0f}{costs.bytes_written:>11,.0f}{costs.fsyncs:>11.2f}"


def _short(micros: float) -> str:
    return f"{micros:,.0f}" if micros >= 100 else f"{micros:.1f}" if micros >= 10 else f"{micros:.2f}"


def _reason(advice: Advice, *, by_counting: bool) -> str:
    """Which kind decides between the first two, and what one of it costs each, in counters."""
    first, second = advice.ranking[:2]
    if advice.sum_of(first) == advice.sum_of(second):
        return f"{first} and {second} cost the same."
    kind = advice.deciding
    told = []
    for engine in (first, second):
        priced = advice.priced[engine]
        took = "" if by_counting else f"takes {_short(1e6 * priced.prices[kind])} µs and "
        told.append(f"{took}{_told(engine, kind, priced.costs[kind])}")
    return f"{first} is before {second} by its {PLURALS[kind]}. One of {first} {told[0]}; one of {second} {told[1]}."


def _told(engine: str, kind: Kind, costs: Costs) -> str:
    """ "reads 1.07 blocks", "reads 0.03 blocks and writes 253 bytes and syncs 1.00 times"."""
    parts = []
    if costs.reads >= 0.005 or kind in (Kind.GET, Kind.SCAN):
        parts.append(f"reads {costs.reads:.2f} {READS.get(engine.partition(' ')[0], 'times')}")
    if costs.bytes_written >= 0.5:
        parts.append(f"writes {costs.bytes_written:,.0f} bytes")
    if costs.fsyncs >= 0.005:
        parts.append(f"syncs {costs.fsyncs:.2f} times")
    return " and ".join(parts) or "touches no file"


def _flips(advice: Advice) -> Iterator[str]:
    """For each kind whose share changes the answer: "From 35 % scans on, btree (below, bitcask)."."""
    steady = []
    for kind, found in advice.flips.items():
        if len(found) == 1:
            steady.append(PLURALS[kind])
        else:
            yield _flip(kind, found)
    if steady:
        yield f"No share of {_listed(steady)} changes that."


def _flip(kind: Kind, found: Sequence[Stretch]) -> str:
    later = "; ".join(f"from {_share(each.begins)} {PLURALS[kind]} on, {each.engine}" for each in found[1:])
    return f"With few {PLURALS[kind]}, {found[0].engine}; {later}."


def _share(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if 1 <= percent <= 99 else f"{percent:.2g} %" if percent < 1 else f"{percent:.1f} %"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"

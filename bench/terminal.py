"""The results in a terminal: tables, bars of blocks, and the two sentences of each picture.

    readrandom, 200,000 keys: thousand operations a second, of lsm's
      bitcask  ████████████████████████████████  512   490 to 530  10.89
      lsm      ███                                47     45 to 50   1.00

A bar ends at the median; the range beside it is the spread of the repetitions; the last column is the ratio to the base.
A narrow terminal loses the range first, then the bar. Codes for bold and faint are only sent to a terminal that takes them.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from bench import reasons, summary
from bench.quantities import duration, factor, number, size
from bench.results import Results
from bench.summary import Curve, Panel

__all__ = ["Screen", "shown"]

EIGHTHS = " ▏▎▍▌▋▊▉█"
MIN_BAR, MAX_BAR = 6, 50  # columns; a shorter one says nothing
PERCENTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Screen:
    """What lines are written for. width: columns. styled: whether it takes codes. blocks: whether it can show EIGHTHS."""

    width: int = 100
    styled: bool = False
    blocks: bool = True

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """As this stream is. A file or a pipe gets no codes; nor does anybody who has set NO_COLOR."""
        styled = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        try:
            EIGHTHS.encode(stream.encoding or "ascii")
            blocks = True
        except (UnicodeEncodeError, LookupError):
            blocks = False
        return cls(shutil.get_terminal_size((100, 24)).columns, styled, blocks)

    def bold(self, text: str) -> str:
        """A heading."""
        return f"\033[1m{text}\033[0m" if self.styled else text

    def faint(self, text: str) -> str:
        """What is beside the point."""
        return f"\033[2m{text}\033[0m" if self.styled else text

    def bar(self, share: float, columns: int) -> str:
        """A bar of that share of the columns, filled up with spaces. share: 0 to 1."""
        eighths = round(max(0.0, min(1.0, share)) * columns * 8)
        if not self.blocks:
            return ("#" * round(eighths / 8)).ljust(columns)
        full, rest = divmod(eighths, 8)
        return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(columns)

    def wrapped(self, text: str) -> list[str]:
        """A paragraph, indented by two."""
        return textwrap.wrap(
            text, max(20, self.width), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )


@dataclass(frozen=True)
class Bar:
    """A line of bars: the figure, and what is written beside it."""

    name: str
    figure: float
    text: str
    between: str
    ratio: str


def shown(results: Results, screen: Screen | None = None, *, base: str | None = None) -> Iterator[str]:
    """The lines of everything that the document has, and a sentence for what it hasn't.

    base: the subject that ratios refer to; the first one without it. Raises ValueError if no subject has that name.
    screen: that of standard output without it.
    """
    names = [subject.name for subject in results.subjects]
    if base is not None and base not in names:
        raise ValueError(f"no subject is called {base!r}: {', '.join(names)} are")
    return _lines(results, screen or Screen.of(sys.stdout), base or (names[0] if names else ""))


def _lines(results: Results, screen: Screen, base: str) -> Iterator[str]:
    machine = results.machine
    yield from _heading(screen, results.command)
    yield from screen.wrapped(f"{results.begun}: {machine.processor}, {machine.cores} cores, Python {machine.python}.")
    yield from screen.wrapped(reasons.machine_sentence(results))
    for panel in summary.panels(results):
        yield ""
        yield from _panel(screen, panel, base)
        yield from _sentences(screen, reasons.throughput_sentences(results, panel))
    yield from _amplification(screen, results)
    yield from _latencies(screen, results)
    yield from _growth(screen, results)
    yield from _memory(screen, results)
    yield from _durability(screen, results)
    if missing := reasons.absent(results):
        yield ""
        yield from screen.wrapped(" ".join(missing))


def _plain(name: str) -> str:
    """A name from the document, without what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _sentences(screen: Screen, told: tuple[str, ...]) -> list[str]:
    return [screen.faint(_plain(line)) for sentence in told for line in screen.wrapped(sentence)]


def _heading(screen: Screen, text: str) -> list[str]:
    return [screen.bold(_plain(line)) for line in textwrap.wrap(text, max(20, screen.width))]


def _panel(screen: Screen, panel: Panel, base: str) -> Iterator[str]:
    based = next((panel.figure(row).middle for row in panel.rows if row.subject == base), None)
    of = f"; the last column is the ratio to {base}" if based else ""
    what = "time" if panel.once else "thousand operations a second"
    yield from _heading(screen, f"{panel.workload}, {panel.keys:,} keys: {what}{of}")
    rows = []
    for row in panel.ranked:
        figure = panel.figure(row)
        ratio = factor(figure.middle / based) if based else ""
        between = f"{panel.text(figure.low)} to {panel.text(figure.high)}" if figure.count > 1 else ""
        rows.append(Bar(row.subject, figure.middle, panel.text(figure.middle), between, ratio))
    yield from _bars(screen, rows)


def _bars(screen: Screen, rows: Sequence[Bar]) -> Iterator[str]:
    """A line for each, as much of it as the width has room for."""
    names = [_plain(row.name)[: max(8, screen.width // 3)] for row in rows]
    name_width, text_width = max(map(len, names)), max(len(row.text) for row in rows)
    between_width, ratio_width = max(len(row.between) for row in rows), max(len(row.ratio) for row in rows)
    left = screen.width - name_width - text_width - ratio_width - 8
    if left - between_width - 2 < MIN_BAR:
        between_width = 0
    columns = min(left - (between_width + 2 if between_width else 0), MAX_BAR)
    most = max(row.figure for row in rows) or 1.0
    for name, row in zip(names, rows):
        bar = f"  {screen.bar(row.figure / most, columns)}" if columns >= MIN_BAR else ""
        between = screen.faint(f"  {row.between:>{between_width}}") if between_width else ""
        yield f"  {name:<{name_width}}{bar}  {row.text:>{text_width}}{between}  {row.ratio:>{ratio_width}}".rstrip()


def _table(screen: Screen, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns one beside the other; where they don't fit, a line for each cell."""
    everything = [[_plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    if sum(widths) + 2 * len(widths) <= screen.width:
        for row in everything:
            cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:]))
            yield f"  {row[0]:<{widths[0]}}  {'  '.join(cells)}".rstrip()
        return
    for row in everything[1:]:
        yield f"  {row[0]}"
        yield from (f"    {name}: {cell}"[: max(20, screen.width)] for name, cell in zip(everything[0][1:], row[1:]))


def _amplification(screen: Screen, results: Results) -> Iterator[str]:
    found, where = summary.amplifications(results)
    if not found:
        return
    yield ""
    counted = ", ".join(f"{name}: {workload}" for name, workload in where.items())
    yield from _heading(screen, f"Amplification ({counted})")
    rows = []
    for each in found:
        factors = dict(each.known)
        rows.append(
            [each.subject, *(factor(factors[name]) if name in factors else "-" for name in ("write", "read", "space"))]
        )
    yield from _table(screen, ("", "written", "read", "space"), rows)
    yield from _sentences(screen, reasons.amplification_sentences(results, found, where))


def _latencies(screen: Screen, results: Results) -> Iterator[str]:
    for latency in summary.latencies(results):
        yield ""
        yield from _heading(
            screen, f"{latency.workload}, {latency.keys:,} keys: latency of so many percent of the operations"
        )
        rows = []
        for curve in latency.curves:
            cells = [duration(reasons.at_share(curve, share)) for share in PERCENTILES]
            rows.append([curve.subject, *cells, duration(curve.points[-1][1].middle)])
        yield from _table(screen, ("", *(f"{share * 100:g} %" for share in PERCENTILES), "longest"), rows)
        yield from _sentences(screen, reasons.latency_sentences(results, latency))


def _growth(screen: Screen, results: Results) -> Iterator[str]:
    for grown in summary.growth(results):
        yield ""
        yield from _heading(screen, f"{grown.workload} against the number of keys: time of one operation")
        sizes = sorted({keys for curve in grown.seconds for keys, _ in curve.points})
        rows = [[curve.subject, *_cells(curve, sizes)] for curve in grown.seconds]
        yield from _table(screen, ("keys", *(f"{keys:,.0f}" for keys in sizes)), rows)
        yield from _sentences(screen, reasons.growth_sentences(results, grown))


def _cells(curve: Curve, sizes: Sequence[float]) -> list[str]:
    known = dict(curve.points)
    return [duration(known[keys].middle) if keys in known else "-" for keys in sizes]


def _memory(screen: Screen, results: Results) -> Iterator[str]:
    if not (found := summary.memory(results)):
        return
    yield ""
    yield from _heading(screen, "Memory: how far the process had grown; the last column is bytes a key")
    rows = []
    for each in found:
        spread = each.resident
        between = f"{size(spread.low)} to {size(spread.high)}" if spread.count > 1 else ""
        a_key = number(spread.middle / max(each.keys, 1))
        rows.append(Bar(each.subject, spread.middle, size(spread.middle), between, a_key))
    yield from _bars(screen, rows)
    yield from _sentences(screen, reasons.memory_sentences(results, found))


def _durability(screen: Screen, results: Results) -> Iterator[str]:
    if not results.durability:
        return
    yield ""
    yield from _heading(screen, "What a put survives, by its own system calls")
    rows = []
    for each in results.durability:
        asked = "synced" if each.synced else "not synced"
        puts = each.puts or 1
        rows.append([each.subject, asked, factor(each.writes / puts), factor(each.fsyncs / puts), each.survives])
    yield from _table(screen, ("", "asked to be", "writes a put", "fsyncs a put", "survives"), rows)
    yield from _sentences(screen, (*reasons.durability_sentences(results.durability), reasons.MAPPED))

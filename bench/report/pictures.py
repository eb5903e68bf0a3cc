"""The pictures, drawn by matplotlib as SVG: bars, triangles, and lines on logarithmic scales.

Text stays text (selectable, read aloud, small). Colours are stand-ins (palette.py). The same results give the same bytes,
with one version of matplotlib: ids come from a fixed salt, and no date is written.

A picture knows nothing of pages: it returns `<svg ...>...</svg>` without a title, and page.py and readme.py say what it
is for those who don't see it.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.quantities import duration, factor, number, size
from bench.report.palette import GRID, INK, PAPER, QUIET, series
from bench.summary import Amplification, Curve, Growth, Latencies, Memory, Panel, Spread

__all__ = ["Colours", "amplification", "growth", "growth_of_memory", "latency", "memory", "overview", "throughput"]

Colours = Mapping[str, int]
"""The number of each subject, by its name: the same in all pictures."""

FONT = '"DejaVu Sans"'
FAMILY = "system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", ":")
WIDTH = 5.4  # inches, of a picture in a column
NAME_LETTERS = 22

SETTINGS: Any = {  # the stubs spell out every name
    "svg.fonttype": "none",
    "svg.hashsalt": "metcd",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": GRID,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


def _drawn(width: float, height: float, draw: Callable[[Figure], None]) -> str:
    """The SVG of a figure of so many inches."""
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that DejaVu lacks is drawn by the reader's font
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)
        draw(figure)
        told = io.StringIO()
        figure.savefig(
            told, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = told.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"'DejaVu Sans'(, [^;\"]*)?", FAMILY, text).rstrip()


def _name(subject: str) -> str:
    """A subject's name as a label: no letters that XML has no place for, and not too many."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in subject)
    return clean if len(clean) <= NAME_LETTERS else f"{clean[: NAME_LETTERS - 1]}…"


def _room(subjects: Iterable[str]) -> float:
    """The inches that the longest of the names takes, in DejaVu Sans of 10 points; a reader's font is narrower."""
    return 0.08 * max(len(_name(subject)) for subject in subjects)


# ---- bars ---------------------------------------------------------------------------------------------------------------


def throughput(panel: Panel, colours: Colours) -> str:
    """One workload: the fastest on top, with the range of the repetitions."""
    rows = _rows_of(panel)
    return _drawn(
        WIDTH, 0.34 * len(rows) + 0.2, lambda figure: _bars(_whole(figure, [row[0] for row in rows]), rows, colours)
    )


def memory(found: Sequence[Memory], colours: Colours) -> str:
    """How far each process grew, the smallest on top."""
    order = sorted(found, key=lambda each: each.resident.middle)
    rows = [(each.subject, each.resident, size(each.resident.middle)) for each in order]
    return _drawn(
        WIDTH, 0.34 * len(rows) + 0.2, lambda figure: _bars(_whole(figure, [row[0] for row in rows]), rows, colours)
    )


def overview(panels: Sequence[Panel], colours: Colours, columns: int = 2) -> str:
    """All workloads in one picture, for a page that can show only files."""
    deepest = max(len(panel.rows) for panel in panels)
    lines = math.ceil(len(panels) / columns)

    room = _room(row.subject for panel in panels for row in panel.rows) + 0.15
    width, height = 9.6, lines * (0.25 * deepest + 0.55)
    column = (width - 0.3) / columns

    def draw(figure: Figure) -> None:
        wide = column - room - 0.1
        edges = {"left": room / width, "right": 1 - 0.3 / width, "top": 1 - 0.3 / height, "bottom": 0.01}
        figure.subplots_adjust(**edges, hspace=0.3, wspace=(room + 0.1) / wide)
        for at, panel in enumerate(panels):
            axes = figure.add_subplot(lines, columns, at + 1)
            axes.set_title(panel.workload, loc="left", fontsize=10, fontweight="bold", color=INK)
            _bars(axes, _rows_of(panel), colours)

    return _drawn(width, height, draw)


def _rows_of(panel: Panel) -> list[tuple[str, Spread, str]]:
    return [(row.subject, panel.figure(row), panel.text(panel.figure(row).middle)) for row in panel.ranked]


def _whole(figure: Figure, subjects: Iterable[str]) -> Axes:
    left = (_room(subjects) + 0.12) / WIDTH
    return figure.add_axes((left, 0.02, 0.99 - left, 0.96))


def _bars(axes: Axes, rows: Sequence[tuple[str, Spread, str]], colours: Colours) -> None:
    """A bar for each (subject, figure, its text), from above; the range is a line with ends over the end of the bar."""
    most = max(spread.high for _, spread, _ in rows) or 1.0
    for at, (subject, spread, text) in enumerate(rows):
        axes.barh(at, spread.middle, height=0.66, color=series(colours[subject]))
        if spread.count > 1:
            ends = ([spread.low, spread.high], [at, at])
            axes.plot(*ends, "|-", color=PAPER, linewidth=3.4, markersize=8, markeredgewidth=3.4)  # so that the line
            axes.plot(*ends, "|-", color=INK, linewidth=1.2, markersize=7, markeredgewidth=1.2)  # shows on every bar
        axes.text(max(spread.high, spread.middle) + most * 0.015, at, text, va="center", ha="left")
    axes.set_yticks(range(len(rows)), [_name(subject) for subject, _, _ in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.xaxis.set_major_locator(NullLocator())
    axes.set_xlim(0, most * 1.16)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[["bottom"]].set_visible(False)


# ---- the triangle -------------------------------------------------------------------------------------------------------

CORNERS = {"write": (0.0, 1.0), "read": (-0.866, -0.5), "space": (0.866, -0.5)}
EDGE = (0.433, 0.25)  # half way from write to space, where the largest ring's factor is written


def amplification(found: Sequence[Amplification], colours: Colours) -> str:
    """A triangle for each subject, on one logarithmic scale: the smaller, the less it does for each byte.

    Subjects of which one factor alone is known have none, unless all are such.
    """
    found = [each for each in found if len(each.known) > 1] or found
    columns = min(4, len(found))
    lines = math.ceil(len(found) / columns)
    largest = max(factor_ for each in found for _, factor_ in each.known)
    decades = max(1, math.ceil(math.log10(max(largest, 1.0)) + 1e-9))

    def draw(figure: Figure) -> None:
        figure.subplots_adjust(left=0.02, right=0.98, top=0.96, bottom=0.04, wspace=0.12, hspace=0.12)
        for at, each in enumerate(found):
            _triangle(figure.add_subplot(lines, columns, at + 1), each, decades, series(colours[each.subject]))

    return _drawn(2.6 * columns, 2.75 * lines, draw)


def _reach(factor_: float, decades: int) -> float:
    """How far from the middle: 0.18 is once and less, 1 is 10^decades."""
    return 0.18 + 0.82 * max(0.0, math.log10(max(factor_, 1.0))) / decades


def _triangle(axes: Axes, each: Amplification, decades: int, colour: str) -> None:
    for decade in range(decades + 1):
        ring = [_scaled(corner, _reach(10**decade, decades)) for corner in CORNERS.values()]
        axes.fill(*zip(*ring), fill=False, edgecolor=GRID, linewidth=0.8)
    x, y = _scaled(EDGE, _reach(10**decades, decades))
    axes.text(x + 0.04, y, f"{10**decades:,}", fontsize=7.5, color=QUIET, ha="left", va="center")
    points = [_scaled(CORNERS[name], _reach(factor_, decades)) for name, factor_ in each.known]
    axes.fill(*zip(*points), facecolor=colour, alpha=0.28)
    axes.fill(*zip(*points), fill=False, edgecolor=colour, linewidth=2)
    axes.plot(*zip(*points), "o", color=colour, markersize=4)
    told = {name: f"{name} {factor(value)}" for name, value in each.known}
    axes.text(0, 1.13, told.get("write", "write -"), ha="center", va="bottom", fontsize=9)
    axes.text(-0.95, -0.62, told.get("read", "read -"), ha="left", va="top", fontsize=9)
    axes.text(0.95, -0.62, told.get("space", "space -"), ha="right", va="top", fontsize=9)
    axes.text(0, -1.0, _name(each.subject), ha="center", va="center", fontsize=11, fontweight="bold")
    axes.set_xlim(-1.12, 1.12)
    axes.set_ylim(-1.15, 1.35)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _scaled(corner: tuple[float, float], reach: float) -> tuple[float, float]:
    return corner[0] * reach, corner[1] * reach


# ---- lines --------------------------------------------------------------------------------------------------------------


def latency(found: Latencies, colours: Colours) -> str:
    """Time against the share of operations that took no longer, both logarithmic: each tick is a nine more."""

    def draw(figure: Figure) -> None:
        axes = _lines(figure, [_tail(curve) for curve in found.curves], colours, duration)
        most = max(x for curve in found.curves for x, _ in _tail(curve).points)
        ticks = [0.30103, *range(1, math.floor(most + 0.05) + 1)]
        axes.set_xticks(ticks, [f"{100 * (1 - 10**-tick):.6g} %" for tick in ticks])
        axes.set_xlim(0.2, most + 0.1)
        axes.set_xlabel("of the operations took no longer")

    return _drawn(WIDTH, 3.3, draw)


def _tail(curve: Curve) -> Curve:
    """With how many nines the share has, instead of the share: 0.999 is 3."""
    return Curve(curve.subject, [(-math.log10(1 - share), spread) for share, spread in curve.points])


def growth(found: Growth, colours: Colours) -> str:
    """The time of one operation against the number of keys, both logarithmic."""
    return _drawn(WIDTH, 3.3, lambda figure: _against_keys(figure, found.seconds, colours, duration))


def growth_of_memory(found: Growth, colours: Colours) -> str:
    """How far the process grew against the number of keys, both logarithmic."""
    return _drawn(WIDTH, 3.3, lambda figure: _against_keys(figure, found.resident, colours, size))


def _against_keys(figure: Figure, curves: Sequence[Curve], colours: Colours, text: Callable[[float], str]) -> None:
    axes = _lines(figure, curves, colours, text)
    axes.set_xscale("log")
    keys = sorted({x for curve in curves for x, _ in curve.points})
    shown = [x for at, x in enumerate(keys) if at == 0 or x >= 2 * keys[at - 1]]
    axes.set_xticks(shown, [f"{x:,.0f}" if x < 100_000 else f"{number(x / 1e6)} million" for x in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("keys in the store")


def _lines(figure: Figure, curves: Sequence[Curve], colours: Colours, text: Callable[[float], str]) -> Axes:
    """Lines with a mark at each point, the range as a band, and the name at the end of each; y is logarithmic."""
    right = (_room(curve.subject for curve in curves) + 0.38) / WIDTH
    axes = figure.add_axes((0.125, 0.17, 0.87 - right, 0.79))
    for curve in curves:
        xs, middles = [x for x, _ in curve.points], [spread.middle for _, spread in curve.points]
        order = colours[curve.subject]
        style, mark = STYLES[order // len(MARKS) % len(STYLES)], MARKS[order % len(MARKS)]
        axes.plot(xs, middles, style, marker=mark, markersize=5, linewidth=1.8, color=series(order))
        lows, highs = [spread.low for _, spread in curve.points], [spread.high for _, spread in curve.points]
        axes.fill_between(xs, lows, highs, color=series(order), alpha=0.18, linewidth=0)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: re.sub(r"\.0+(?= )", "", text(value))))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, axis="y")
    axes.tick_params(length=3)
    _name_ends(axes, curves, colours)
    return axes


def _name_ends(axes: Axes, curves: Sequence[Curve], colours: Colours) -> None:
    """The names right of the lines' ends, moved apart where they would lie on each other."""
    low, high = (math.log(limit) for limit in axes.get_ylim())
    ends = sorted(((math.log(curve.points[-1][1].middle) - low) / (high - low), curve.subject) for curve in curves)
    gap, places = 0.068, [end for end, _ in ends]
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + gap)
    places[-1] = min(places[-1], 1.0)
    for at in range(len(places) - 2, -1, -1):
        places[at] = min(places[at], places[at + 1] - gap)
    inch = 1 / (WIDTH * axes.get_position().width)
    for place, (end, subject) in zip(places, ends):
        told: dict[str, Any] = {"color": series(colours[subject]), "transform": axes.transAxes, "clip_on": False}
        axes.plot([1 + 0.03 * inch, 1 + 0.14 * inch], [end, place], linewidth=1, **told)
        axes.plot([1 + 0.21 * inch], [place], MARKS[colours[subject] % len(MARKS)], markersize=5, **told)
        axes.text(1 + 0.3 * inch, place, _name(subject), va="center", fontsize=9.5, transform=axes.transAxes)

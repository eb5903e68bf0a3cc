"""The report: one HTML file with everything in it, which needs no network and runs no script.

    the command and the machine ─ subjects ─ throughput ─ amplification ─ latency ─ growth ─ memory ─ durability ─ what is absent

Each picture stands in a figure: a heading, the SVG with a text for those who don't see it, what to see, why, and its
figures as a table. The page follows the reader's light or dark, and prints on white.

1. Every name from the document is escaped; a policy in the page itself forbids scripts and everything from elsewhere.
2. The same document gives the same bytes: nothing is dated but the run itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from bench import reasons, summary
from bench.quantities import duration, factor, number, size
from bench.report import pictures
from bench.report.palette import STYLE, as_variables, series
from bench.report.pictures import Colours
from bench.results import Results, Subject
from bench.summary import Curve, Panel, Row

__all__ = ["colours_of", "page"]

TITLE = "Engines side by side"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # HTML has no place for them
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def colours_of(results: Results) -> Colours:
    """A number for each subject, in the order of the document."""
    return {subject.name: at for at, subject in enumerate(results.subjects)}


def page(results: Results) -> str:
    """The report as HTML. Costs some 50 ms for each picture."""
    topics = {
        "Throughput": _throughput(results),
        "Amplification": _amplification(results),
        "Latency": _latency(results),
        "Growth": _growth(results),
        "Memory": _memory(results),
        "Durability": _durability(results),
    }
    shown = {name: body for name, body in topics.items() if body}
    links = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name in shown)
    sections = "\n".join(
        f'<section id="{name.lower()}" aria-labelledby="h-{name.lower()}"><h2 id="h-{name.lower()}">{name}</h2>\n{body}</section>'
        for name, body in shown.items()
    )
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{TITLE}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n'
        f'{_head(results)}\n<nav aria-label="Topics"><ul>{links}</ul></nav>\n<main>\n{_subjects(results.subjects)}\n{sections}\n'
        f"{_absent(results)}</main>\n</body>\n</html>\n"
    )
    return CONTROL.sub("?", text)


def _head(results: Results) -> str:
    machine = results.machine
    settings = ", ".join(
        _setting(name, value) for name, value in results.settings.items() if value not in ("", None, [])
    )
    where = f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, {results.begun}"
    lines = [
        f"<p><code>{escape(results.command)}</code></p>",
        f"<p>{escape(where)}. {escape(reasons.machine_sentence(results))}</p>",
    ]
    if settings:
        lines.append(f"<p>Settings: {escape(settings)}.</p>")
    return f"<header><h1>{TITLE}</h1>{''.join(lines)}</header>"


def _setting(name: str, value: object) -> str:
    name = name.replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _subjects(subjects: Sequence[Subject]) -> str:
    rows = []
    for at, subject in enumerate(subjects):
        chip = f'<span class="chip" style="background:{as_variables(series(at))}"></span>'
        options = ", ".join(f"{name}={value}" for name, value in subject.options.items()) or "as it comes"
        kind = {"engine": "ours", "learner": "a learner's"}.get(subject.kind, subject.kind)
        rows.append([f"{chip}{escape(subject.name)}", *map(escape, (kind, subject.version or "-", options))])
    return _table(("", "kind", "version", "options"), rows, text=True)


def _absent(results: Results) -> str:
    """What there is no picture of; and what the run itself has noted, which may be long."""
    missing, text = reasons.absent(results), ""
    if missing:
        text = f'<section id="absent"><h2>What this document has nothing for</h2>{_list(missing)}</section>\n'
    if results.notes:
        summary_ = f"<summary>{len(results.notes)} notes of the run</summary>"
        text += f'<section id="notes"><h2>Notes</h2><details>{summary_}{_list(results.notes)}</details></section>\n'
    return text


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


# ---- parts of a figure --------------------------------------------------------------------------------------------------


def _figure(name: str, heading: str, svg: str, told: tuple[str, str], table: str, *, wide: bool = False) -> str:
    """name: unique in the page, of letters, digits and dashes. table: HTML."""
    see, why = (escape(sentence) for sentence in told)
    kind = ' class="wide"' if wide else ""
    return (
        f"<figure{kind}><h3>{escape(heading)}</h3>{_inline(svg, name, heading, told[0])}"
        f'<figcaption><p class="see">{see}</p><p class="why">{why}</p></figcaption>'
        f"<details><summary>The figures</summary>{table}</details></figure>\n"
    )


def _inline(svg: str, name: str, title: str, description: str) -> str:
    """An SVG as a part of the page: its ids are its own, its colours are the page's, and its text is told."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", svg)
    told = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    head = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    return as_variables(re.sub(r"<svg([^>]*)>", lambda found: f"{head}{found[1]}>{told}", svg, count=1))


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], *, text: bool = False) -> str:
    """Cells are HTML; the first of a row is its heading. text: columns of words and not of numbers."""
    kind = ' class="text"' if text else ""
    heads = "".join(f'<th scope="col"{kind}>{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row"{kind}>{row[0]}</th>' + "".join(f"<td{kind}>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(panel: Panel, row: Row) -> list[str]:
    figure = panel.figure(row)
    return [*map(panel.text, (figure.middle, figure.low, figure.high)), str(figure.count)]


def _points(curves: Sequence[Curve], head: Sequence[str], xs: Sequence[float], text: str) -> str:
    """A table with a row for each curve, and a column for each x."""
    shape = size if text == "size" else duration
    rows = []
    for curve in curves:
        known = dict(curve.points)
        rows.append([escape(curve.subject), *(shape(known[x].middle) if x in known else "-" for x in xs)])
    return _table(["", *head], rows)


# ---- topics -------------------------------------------------------------------------------------------------------------


def _throughput(results: Results) -> str:
    panels, colours = summary.panels(results), colours_of(results)
    if not panels:
        return ""
    figures = []
    for at, panel in enumerate(panels):
        rows = [[escape(row.subject), *_cells(panel, row)] for row in panel.ranked]
        what = "time" if panel.once else "thousand a second"
        table = _table((what, "median", "lowest", "highest", "repetitions"), rows)
        told = reasons.throughput_sentences(results, panel)
        heading = f"{panel.workload}, {panel.keys:,} keys"
        figures.append(_figure(f"throughput{at}", heading, pictures.throughput(panel, colours), told, table))
    about = (
        "Thousand operations a second: longer is better. What is done only once has its time instead: shorter is better. "
        "A bar is the median, the line over its end the range of the repetitions."
    )
    return f'<p class="about">{about}</p><div class="grid">{"".join(figures)}</div>\n'


def _amplification(results: Results) -> str:
    found, where = summary.amplifications(results)
    if not found:
        return ""
    rows = []
    for each in found:
        known = dict(each.known)
        rows.append(
            [escape(each.subject), *(factor(known[name]) if name in known else "-" for name in pictures.CORNERS)]
        )
    table = _table(("", *pictures.CORNERS), rows)
    told = reasons.amplification_sentences(results, found, where)
    svg = pictures.amplification(found, colours_of(results))
    counted = "; ".join(f"{name} is counted in {workload}" for name, workload in where.items())
    about = (
        "Write: bytes written to files for each byte put. Read: bytes read from files for each byte of the pairs that gets "
        "found. Space: bytes on disk for each byte of live pairs. The innermost ring is once, each further one ten times as much, and a small "
        f"triangle is good; no engine is least in all three corners at once. A dash: not counted; with one factor alone there is no triangle, and it stands in the figures. {escape(counted)}."
    )
    figure = _figure("amplification", "Written, read and kept", svg, told, table, wide=True)
    return f'<p class="about">{about}</p><div class="grid">{figure}</div>\n'


def _latency(results: Results) -> str:
    figures = []
    for at, found in enumerate(summary.latencies(results)):
        shares = sorted({share for curve in found.curves for share, _ in curve.points})
        table = _points(found.curves, [f"{share * 100:.6g} %" for share in shares], shares, "duration")
        told = reasons.latency_sentences(results, found)
        heading = f"{found.workload}, {found.keys:,} keys"
        figures.append(_figure(f"latency{at}", heading, pictures.latency(found, colours_of(results)), told, table))
    about = (
        "How long single operations took: lower is better, and a line that rises steeply has a long tail. The last point is "
        "the longest of all. Bands are the range of the repetitions."
    )
    return f'<p class="about">{about}</p><div class="grid">{"".join(figures)}</div>\n' if figures else ""


def _growth(results: Results) -> str:
    figures = []
    colours, grown = colours_of(results), summary.growth(results)
    for at, found in enumerate(grown):
        keys = sorted({x for curve in found.seconds for x, _ in curve.points})
        table = _points(found.seconds, [f"{x:,.0f}" for x in keys], keys, "duration")
        told = reasons.growth_sentences(results, found)
        heading = f"{found.workload}: time of one operation"
        figures.append(_figure(f"growth{at}", heading, pictures.growth(found, colours), told, table))
    about = "Both scales are logarithmic: a level line costs the same at any size, and a line that climbs costs more with more keys."
    return f'<p class="about">{about}</p><div class="grid">{"".join(figures)}</div>\n' if figures else ""


def _memory(results: Results) -> str:
    found, colours = summary.memory(results), colours_of(results)
    if not found:
        return ""
    rows = [
        [escape(each.subject), size(each.resident.middle), size(each.resident.low), size(each.resident.high),
         number(each.resident.middle / max(each.keys, 1)), escape(each.workload)]
        for each in found
    ]  # fmt: skip
    table = _table(("", "median", "lowest", "highest", "bytes a key", "in"), rows)
    told = reasons.memory_sentences(results, found)
    figures = [_figure("memory", "How far the process grew", pictures.memory(found, colours), told, table)]
    grown = next((each for each in summary.growth(results) if each.resident), None)
    if grown is not None:
        keys = sorted({x for curve in grown.resident for x, _ in curve.points})
        points = _points(grown.resident, [f"{x:,.0f}" for x in keys], keys, "size")
        svg = pictures.growth_of_memory(grown, colours)
        told = reasons.memory_growth_sentences(results, grown)
        figures.append(
            _figure("memory-growth", f"{grown.workload}: memory against the number of keys", svg, told, points)
        )
    about = "Resident memory of the process since before the store was opened, in the workload in which it was largest: shorter is better."
    return f'<p class="about">{about}</p><div class="grid">{"".join(figures)}</div>\n'


def _durability(results: Results) -> str:
    if not results.durability:
        return ""
    signs = {"power cut": "●", "killed process": "◐", "nothing": "○"}
    rows = []
    for each in results.durability:
        counts = [factor(count / each.puts) if each.puts else "-" for count in (each.writes, each.fsyncs)]
        asked = "synced" if each.synced else "not synced"
        survives = (
            f'<span class="sign" aria-hidden="true">{signs.get(each.survives, "?")}</span>{escape(each.survives)}'
        )
        rows.append([escape(each.subject), asked, *counts, survives])
    table = _table(("", "asked to be", "writes a put", "fsyncs a put", "survives"), rows)
    see, why = (escape(sentence) for sentence in reasons.durability_sentences(results.durability))
    about = (
        "What a put survives once it has returned, by the system calls that its process made, not by what its "
        f"documentation says. {reasons.MAPPED}"
    )
    return (
        f'<p class="about">{about}</p><div class="grid"><figure class="wide">{table}'
        f'<figcaption><p class="see">{see}</p><p class="why">{why}</p></figcaption></figure></div>\n'
    )

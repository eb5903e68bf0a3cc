"""`python -m bench.report.readme [JSON]`: README's table and pictures of the engines, from the document that is kept.

    docs/bench/engines.json ──► README.md, between the two marks: what was run, the pictures, the table, the sentences
                            └─► docs/bench/*.svg, each in light and in dark

python -m bench.report.readme                     makes all of it anew
python -m bench.report.readme run.json            keeps run.json as docs/bench/engines.json first
python -m bench.report.readme --check             writes nothing; 1 if README or a picture is not of the kept document

A picture ends with a comment that has the document's digest: whether it is of this document can be told without drawing it.
The kept document has no histograms, which nobody draws and which are most of its bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from bench import reasons, summary
from bench.quantities import listed
from bench.report import MISSING
from bench.results import Results, ResultsFault

__all__ = ["between_marks", "digest", "kept", "main", "problems", "section"]

ROOT = Path(__file__).parents[2]
DOCUMENT = "docs/bench/engines.json"
BEGIN, END = "<!-- made by python -m bench.report.readme -->", "<!-- end of what was made -->"
TITLES = {
    "throughput": "Throughput of each workload",
    "amplification": "Bytes written, read and kept",
    "growth": "The time of a get against the number of keys",
}


def kept(results: Results) -> Results:
    """The results as they are kept: without the histograms, whose percentiles stay."""
    measured = [
        replace(each, latency=replace(each.latency, histogram="")) if each.latency else each
        for each in results.measured
    ]
    return replace(results, measured=measured)


def _compact(results: Results) -> str:
    """As JSON, with a line for each measurement."""
    document = json.loads(results.encode())
    lines = ",\n".join(f"  {json.dumps(row)}" for row in document.pop("measured"))
    return f'{json.dumps(document, indent=1)[:-2]},\n "measured": [\n{lines}\n ]\n}}\n'


def digest(results: Results) -> str:
    """Which document this is: twelve letters."""
    return hashlib.sha256(results.encode().encode()).hexdigest()[:12]


def picture_names(results: Results) -> list[str]:
    """The pictures that this document has something for."""
    names = ["throughput"] if summary.panels(results) else []
    names += ["amplification"] if summary.amplifications(results)[0] else []
    return names + (["growth"] if _grown(results) else [])


def _grown(results: Results) -> summary.Growth | None:
    """The growth that a README shows: of gets, if there is one."""
    grown = summary.growth(results)
    return next((each for each in grown if each.workload == "readrandom"), grown[0] if grown else None)


# ---- README.md ----------------------------------------------------------------------------------------------------------


def section(results: Results) -> str:
    """What stands between the marks, as Markdown."""
    parts = [_what_was_run(results), _told(results, "throughput"), _table(results), _command(results)]
    parts += [_told(results, name) for name in picture_names(results) if name != "throughput"]
    if results.durability:
        parts.append(" ".join(reasons.durability_sentences(results.durability)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_was_run(results: Results) -> str:
    machine, told = results.machine, results.settings
    repetitions = max((row.rate.count for panel in summary.panels(results) for row in panel.rows), default=0)
    keys = sorted({panel.keys for panel in summary.panels(results)})
    versions = [f"{each.name} {each.version}" for each in results.subjects if each.version]
    options = [
        f"{each.name} has {', '.join(f'`{name}={value}`' for name, value in each.options.items())}"
        for each in results.subjects
        if each.options
    ]
    sentences = [
        "**Engines beside their peers**: thousand operations a second, the median of "
        f"{repetitions} repetition{'s' if repetitions != 1 else ''}, each in a fresh process and in turn with the others",
        f"{listed([f'{count:,}' for count in keys])} keys of 16 bytes, values of {told.get('value_bytes', 100)}",
        *([f"Versions: {'; '.join(versions)}"] if versions else []),
        *(["; ".join(options)] if options else []),
        f"{machine.processor}, {machine.cores} cores, Python {machine.python}",
        reasons.machine_sentence(results).rstrip("."),
    ]
    return escape(". ".join(sentences), quote=False) + "."


def _told(results: Results, name: str) -> str:
    """A picture in light and dark, and its two sentences; throughput has its reasons below the table."""
    if name not in picture_names(results):
        return ""
    folder = DOCUMENT.rpartition("/")[0]
    width = ' width="560"' if name == "growth" else ""
    image = (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{folder}/{name}-dark.svg">'
        f'<img alt="{TITLES[name]}"{width} src="{folder}/{name}-light.svg"></picture>'
    )
    if name == "amplification":
        return f"{image}\n\n{_sentence(*reasons.amplification_sentences(results, *summary.amplifications(results)))}"
    if name == "growth" and (grown := _grown(results)):
        return f"{image}\n\n{_sentence(*reasons.growth_sentences(results, grown))}"
    return image


def _sentence(*told: str) -> str:
    return escape(" ".join(told), quote=False)


def _table(results: Results) -> str:
    """Rows are workloads, columns subjects; the fastest of a row is bold if the repetitions tell it from the others."""
    names = [subject.name for subject in results.subjects]
    lines = [f"| | {' | '.join(map(_cell, names))} |", "|---|" + "---|" * len(names)]
    for panel in summary.panels(results):
        known = {row.subject: panel.text(panel.figure(row).middle) for row in panel.rows}
        first, *others = panel.ranked
        if others and all(first.differs(row) for row in others):
            known[first.subject] = f"**{known[first.subject]}**"
        lines.append(f"| {_cell(panel.workload)} | {' | '.join(known.get(name, '-') for name in names)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|")


def _command(results: Results) -> str:
    """How to run it again, and why gets are as they are."""
    command = re.sub(r"(--json|--report|--directory|-o)[ =](\S*/)*", r"\1 ", results.command.replace("`", ""))
    told = f"```\n{command}\npython -m bench.report.readme run.json     # this table and these pictures\n```"
    gets = next((panel for panel in summary.panels(results) if panel.workload == "readrandom"), None)
    if gets is None:
        return told
    return f"{told}\n\n{_sentence('A get: ', *reasons.throughput_sentences(results, gets)).replace('  ', ' ')}"


def between_marks(readme: str, made: str | None = None) -> str:
    """What stands between the marks of a README; or, with `made`, the README with that between them. Raises ValueError."""
    before, begun, rest = readme.partition(f"{BEGIN}\n")
    inside, ended, after = rest.partition(f"{END}\n")
    if not begun or not ended:
        raise ValueError(f"README.md has no lines {BEGIN!r} and {END!r}")
    return inside if made is None else f"{before}{BEGIN}\n{made}{END}\n{after}"


# ---- the command --------------------------------------------------------------------------------------------------------


def draw(results: Results, folder: Path) -> None:
    """Writes the pictures, and removes those of other documents. Imports matplotlib."""
    from bench.report import page, palette, pictures  # only who draws needs matplotlib

    colours = page.colours_of(results)
    drawn = {}
    for name in picture_names(results):
        if name == "throughput":
            drawn[name] = pictures.overview(summary.panels(results), colours)
        elif name == "amplification":
            drawn[name] = pictures.amplification(summary.amplifications(results)[0], colours)
        elif grown := _grown(results):
            drawn[name] = pictures.growth(grown, colours)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, svg in drawn.items():
        for mode, fixed in (("light", palette.LIGHT), ("dark", palette.DARK)):
            text = re.sub(r"<svg([^>]*)>", rf"<svg\1 role='img'><title>{TITLES[name]}</title>", svg, count=1)
            text = palette.as_fixed(text, fixed)
            (folder / f"{name}-{mode}.svg").write_text(f"{text}\n{_mark(results)}\n", "utf-8")


def _mark(results: Results) -> str:
    return f"<!-- {DOCUMENT} {digest(results)} -->"


def problems(root: Path) -> list[str]:
    """Why README.md or a picture is not of the kept document; empty if all are. Draws nothing. Raises ResultsFault, OSError."""
    results = Results.decode((root / DOCUMENT).read_text("utf-8"))
    found = []
    if between_marks((root / "README.md").read_text("utf-8")) != section(results):
        found.append(f"README.md is not what {DOCUMENT} says")
    for name in picture_names(results):
        for mode in ("light", "dark"):
            file = (root / DOCUMENT).parent / f"{name}-{mode}.svg"
            if not file.exists() or not file.read_text("utf-8").endswith(f"{_mark(results)}\n"):
                found.append(f"{file.relative_to(root)} is not of {DOCUMENT}")
    return found


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Makes them, or says what is wrong with them."""
    parser = argparse.ArgumentParser("python -m bench.report.readme", description="README's table of the engines.")
    parser.add_argument("document", nargs="?", type=Path, help=f"of metcd bench --json; kept as {DOCUMENT}")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if something isn't up to date")
    told = parser.parse_args(words)
    try:
        if told.check:
            found = problems(root)
            print(*(found or [f"README.md is what {DOCUMENT} says"]), sep="\n")
            return 1 if found else 0
        results = kept(Results.decode((told.document or root / DOCUMENT).read_text("utf-8")))
        made = between_marks((root / "README.md").read_text("utf-8"), section(results))
        (root / DOCUMENT).parent.mkdir(parents=True, exist_ok=True)
        draw(results, (root / DOCUMENT).parent)
        (root / DOCUMENT).write_text(_compact(results), "utf-8")
        (root / "README.md").write_text(made, "utf-8")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"matplotlib", "numpy"}:
            raise
        print(f"python -m bench.report.readme: {MISSING}", file=sys.stderr)
        return 1
    except (ResultsFault, ValueError, OSError) as error:
        print(f"python -m bench.report.readme: {error}", file=sys.stderr)
        return 1
    print(f"README.md and {DOCUMENT.rpartition('/')[0]} are of {digest(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

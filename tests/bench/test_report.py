"""The report as one HTML file. Drawn once for all tests: that takes a second."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.report import ReportFault, palette, report
from bench.report.page import colours_of
from bench.report.pictures import latency, throughput
from bench.results import Counters, Latency, Results
from bench.summary import latencies, panels
from bench.terminal import Screen, shown
from server import cli
from tests.bench.sample_results import sample

EVIL = "<script>alert(1)</script>$x^2$&\"'\x1b"


class Nesting(HTMLParser):
    """Which elements there are; every one has its end tag."""

    VOID = frozenset({"meta", "link", "source", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def renamed(results: Results, old: str, new: str) -> Results:
    """With another name for a subject."""
    return replace(
        results,
        subjects=[replace(each, name=new) if each.name == old else each for each in results.subjects],
        measured=[replace(each, subject=new) if each.subject == old else each for each in results.measured],
        durability=[replace(each, subject=new) if each.subject == old else each for each in results.durability],
    )


@pytest.fixture(scope="module")
def html() -> str:
    return report(replace(renamed(sample(), "lsm", EVIL), command=f"metcd bench {EVIL}"))


def test_it_nests_and_ids_are_unique(html: str) -> None:
    nesting = Nesting()
    nesting.feed(html)
    assert nesting.open == []
    assert nesting.seen.count("svg") == nesting.seen.count("desc") == 9
    assert len(set(nesting.ids)) == len(nesting.ids)
    lost = set(re.findall(r'(?:href="|url\()#([\w-]+)', html)) - set(nesting.ids)
    assert lost == set()


def test_there_is_a_topic_for_each_thing_to_be_shown_and_a_table_for_each_picture(html: str) -> None:
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert headings == ["Throughput", "Amplification", "Latency", "Growth", "Memory", "Durability"]
    figures = re.findall(r"<figure.*?</figure>", html, flags=re.DOTALL)
    assert len(figures) == 10
    for figure in figures:
        assert "<table>" in figure
        assert re.search(r'<p class="see">[^<]{20,}</p><p class="why">[^<]{20,}</p>', figure)


def test_it_needs_nothing_from_elsewhere_and_runs_nothing(html: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|<script|<iframe|\bon\w+=", html)
    assert "default-src 'none'" in html


def test_names_are_text_and_nothing_else(html: str) -> None:
    assert "alert(1)&lt;/script&gt;$x^2$&amp;" in html
    assert "\x1b" not in html


def test_colours_follow_light_and_dark(html: str) -> None:
    assert "@media (prefers-color-scheme:dark)" in html
    assert not palette.STAND_IN.search(html)
    assert not re.search(r"<svg(?:(?!</svg>).)*#[0-9a-f]{6}", html, flags=re.DOTALL), "a fixed colour in a picture"


def test_the_same_results_give_the_same_bytes() -> None:
    panel, colours = panels(sample())[0], colours_of(sample())
    assert throughput(panel, colours) == throughput(panel, colours)
    found = latencies(sample())[0]
    text = latency(found, colours)
    assert text == latency(found, colours)
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "99.99 %" in text


def linear(colour: str) -> list[float]:
    """Red, green and blue of sRGB, without its curve."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def luminance(colour: str) -> float:
    """WCAG 2.1."""
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_colours_stand_out(colours: dict[str, str]) -> None:
    """WCAG 2.1: text 4.5, parts of a picture 3."""
    paper = luminance(colours[palette.PAPER])
    for stand_in, colour in colours.items():
        if stand_in in (palette.PAPER, palette.GRID):
            continue
        low, high = sorted((paper, luminance(colour)))
        asked = 4.5 if stand_in in (palette.INK, palette.QUIET) else 3
        assert (high + 0.05) / (low + 0.05) >= asked, f"{colour} on {colours[palette.PAPER]}"


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1
EYES = {
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1094, 0.8729))  # relative to white


def seen(colour: str, eyes: str) -> tuple[float, float, float]:
    """A colour in CIE L*a*b*, as these eyes see it."""
    red, green, blue = linear(colour)
    red, green, blue = (min(1.0, max(0.0, a * red + b * green + c * blue)) for a, b, c in EYES[eyes])
    x, y, z = (a * red + b * green + c * blue for a, b, c in XYZ)
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_colours_can_be_told_apart_by_all_readers(colours: dict[str, str], eyes: str) -> None:
    shown = [seen(colours[palette.series(number)], eyes) for number in range(8)]
    assert min(math.dist(one, other) for one, other in combinations(shown, 2)) > 14.5


def test_what_a_document_has_nothing_for_is_left_out_and_said() -> None:
    html = report(sample(keys=(10_000,), peers=False, latency=False, durability=False))
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert headings == ["Throughput", "Amplification", "Memory", "What this document has nothing for"]
    for sentence in ("No latencies: ", "No growth: ", "No durability: ", "No peers: "):
        assert sentence in html


def test_a_document_of_zeros_is_drawn_as_far_as_it_goes() -> None:
    """Nothing took any time, nothing was counted, and nothing has a size."""
    counters = Counters(pairs=0, user_bytes=0, bytes_written=0, bytes_read=0, reads=0, fsyncs=0)
    latency_ = Latency(count=2, percentiles={"50": 0.0}, longest=0.0, histogram="")
    nothing = {
        "counters": counters,
        "latency": latency_,
        "disk_bytes": 0,
        "live_bytes": 0,
        "resident_bytes": 0,
        "keys": 0,
    }
    results = sample()
    measured = [replace(each, **nothing) for each in results.measured[:1]]
    measured += [replace(each, normalised=0.0) for each in results.measured[1:3]]
    durability = [replace(each, puts=0) for each in results.durability]
    results = replace(results, measured=measured, durability=durability, notes=["<b>slow</b>"])
    assert "&lt;b&gt;slow&lt;/b&gt;" in report(results)
    assert len(list(shown(results, Screen(80)))) > 5
    empty = replace(results, subjects=[], measured=[], durability=[])
    assert "No throughput" in report(empty)
    assert len(list(shown(empty, Screen(80)))) > 3


def test_the_verb_draws_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, page = tmp_path / "a.json", tmp_path / "a.html"
    document.write_text(sample(keys=(100,), latency=False).encode())
    assert cli.main(["bench", "report", str(document), "-o", str(page)]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    capsys.readouterr()
    assert cli.main(["bench", "report", str(document), "--base", "LevelDB"]) == 0
    assert "the last column is the ratio to LevelDB" in " ".join(capsys.readouterr().out.split())
    for words, sentence in (
        (["report"], "it is: metcd bench report A.json -o FILE.html"),
        (["report", str(page), "-o", str(page)], "this is no JSON"),
        (["report", str(document), "--base", "x"], "no subject is called 'x'"),
        (["--report", "/no/such/directory/a.html"], "can't be written"),
        (["--engine", "lsm", "--base", "btree"], "no subject is called 'btree': lsm are"),
    ):
        assert cli.main(["bench", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_without_matplotlib_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib" or name == "bench.report.page"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "bench.report.pictures")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportFault, match=r"pip install 'metcd\[bench\]'"):
        report(sample())

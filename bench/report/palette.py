"""Colours for readers who see them differently, on white and on black, and the style sheet of the report.

Pictures are drawn once, in stand-in colours that no picture needs (#0a0000, #0a0001, ...). What a stand-in becomes is said
afterwards: a variable of the style sheet in the report, which follows the reader's light or dark; a fixed colour in a file.

1. Every two colours lie at least 15 apart (CIE 1976) for people with any of the three kinds of colour blindness, by the
   matrices of Machado, Oliveira and Fernandes (2009). Hues are those of Okabe and Ito; a search moved the lightness.
   Each has three times the background's luminance, and text four and a half (WCAG 2.1, 1.4.3 and 1.4.11).
2. Nothing is told by colour alone: bars carry their names, lines carry names and marks.
"""

from __future__ import annotations

import re

__all__ = ["DARK", "GRID", "INK", "LIGHT", "PAPER", "QUIET", "STYLE", "as_fixed", "as_variables", "series"]

INK, QUIET, GRID, PAPER = "#0a0000", "#0a0001", "#0a0002", "#0a0003"  # PAPER: what a picture lies on
SERIES = tuple(f"#0b00{number:02x}" for number in range(8))

LIGHT = {
    INK: "#1a1d21", QUIET: "#59616b", GRID: "#d5dae0", PAPER: "#f4f6f8",
    **dict(zip(SERIES, ("#297ffd", "#920800", "#456c49", "#b3779c", "#d17014", "#116ba9", "#3d4144", "#69206d"))),
}  # fmt: skip
DARK = {
    INK: "#e8eaed", QUIET: "#a4adb8", GRID: "#3a414a", PAPER: "#1e2226",
    **dict(zip(SERIES, ("#3b88f6", "#de533d", "#65f5ae", "#ab7185", "#eedb55", "#a1cdff", "#bdc6cc", "#ce53b7"))),
}  # fmt: skip
NAMES = {
    INK: "ink",
    QUIET: "quiet",
    GRID: "grid",
    PAPER: "raised",
    **{colour: f"s{number}" for number, colour in enumerate(SERIES)},
}
STAND_IN = re.compile(r"#0[ab]00[0-9a-f]{2}\b")


def series(number: int) -> str:
    """The stand-in of the subject with this number; they begin again after eight."""
    return SERIES[number % len(SERIES)]


def as_variables(text: str) -> str:
    """With a variable of STYLE for each stand-in."""
    return STAND_IN.sub(lambda found: f"var(--{NAMES[found[0]]})", text)


def as_fixed(text: str, colours: dict[str, str]) -> str:
    """With the colours of LIGHT or DARK."""
    return STAND_IN.sub(lambda found: colours[found[0]], text)


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{NAMES[stand_in]}:{colour};" for stand_in, colour in colours.items())


STYLE = (
    ":root{color-scheme:light dark;--paper:#fff;" + _variables(LIGHT) + "}\n"
    "@media (prefers-color-scheme:dark){:root{--paper:#14171a;" + _variables(DARK) + "}}\n"
    """*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);
 font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem} h2{font-size:1.35rem;margin:3rem 0 .25rem;scroll-margin-top:1rem}
h3{font-size:1.05rem;margin:0 0 .25rem;overflow-wrap:anywhere} p{margin:.4rem 0;max-width:48rem}
header p,.about{color:var(--quiet)} code{font:.9em ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;list-style:none} a{color:inherit}
.grid{display:grid;gap:1.25rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));margin-top:1rem}
figure{margin:0;padding:1rem 1.1rem;background:var(--raised);border-radius:.5rem;min-width:0}
figure.wide{grid-column:1/-1} figure svg{display:block;width:100%;height:auto;max-width:44rem;overflow:visible}
figure.wide svg{max-width:68rem} figcaption p{font-size:.95rem} .why{color:var(--quiet)}
details{margin-top:.5rem;font-size:.9rem} summary{cursor:pointer;color:var(--quiet)}
.scroll{overflow-x:auto} table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0;font-size:.9rem}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0} td.text,th.text{text-align:left;white-space:normal}
thead th{color:var(--quiet);font-weight:600} tbody th{font-weight:400}
.chip{display:inline-block;width:.8em;height:.8em;border-radius:.2em;margin-right:.5em;vertical-align:-.05em}
.sign{margin-right:.4em}
@media print{@page{margin:14mm}
 :root{color-scheme:light;--paper:#fff;"""
    + _variables(LIGHT | {PAPER: "#fff"})
    + """}
 body{padding:0;max-width:none;font-size:9pt} nav,details,#notes{display:none} h1{font-size:16pt} h2{font-size:12pt;margin-top:12pt}
 h3{font-size:9.5pt} figcaption p,table{font-size:8pt} h1,h2,h3,.about{break-after:avoid}
 figure{border:1px solid var(--grid);break-inside:avoid;padding:.6rem .7rem} tr,.about{break-inside:avoid}
 .grid{grid-template-columns:1fr 1fr;gap:.6rem} .scroll{overflow:visible} .chip,figure,svg{print-color-adjust:exact}}
"""
)

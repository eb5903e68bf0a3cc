"""The comparison in pictures: one HTML file, and the table and pictures of the README.

    palette.py     colours, and the style sheet
    pictures.py    the pictures, as SVG: matplotlib draws them
    page.py        the HTML
    readme.py      `python -m bench.report.readme`: README.md and docs/bench, made anew from the document that is kept

matplotlib is an extra (`pip install 'metcd[bench]'`): it has been kept for twenty years, writes SVG whose text stays text,
and gives the same bytes for the same figures. What stands in a picture is decided without it, in bench/summary.py and
bench/reasons.py, and so is what a terminal shows.
"""

from __future__ import annotations

from importlib.util import find_spec

from bench.results import Results

__all__ = ["MISSING", "ReportFault", "missing", "report"]

MISSING = "the report is drawn with matplotlib, which is not installed: pip install 'metcd[bench]'"


class ReportFault(Exception):
    """There can be no report, with a sentence that says why."""


def missing() -> str:
    """MISSING if there can be no report here, and else nothing. Imports nothing."""
    return "" if find_spec("matplotlib") else MISSING


def report(results: Results) -> str:
    """The report as one HTML page. Raises ReportFault without matplotlib."""
    try:
        from bench.report.page import page  # imports matplotlib, which takes half a second and may be absent
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"matplotlib", "numpy"}:
            raise
        raise ReportFault(MISSING) from None
    return page(results)

"""Which of the learner's functions is wrong: those whose replacement by the reference ones makes a failing test pass.

    learner    a b c d e f g h       red
    trial      A B C D e f g h       green?  then the fault lies among a b c d; else look at e f g h, else at both
    ...
    answer     the smallest set that was found: {c}

The search is Zeller's delta debugging (ddmin: "Simplifying and Isolating Failure-Inducing Input", 2002), with "the test
passes when these are replaced" as what is to be kept: O(log n) runs of one test for one fault, at most O(n²).
The answer is minimal: leaving out any one of its functions leaves the test red.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tutorial.learn import check, cut, tree
from tutorial.learn.course import Chapter, Course, Owned

__all__ = ["blame", "minimal", "suspects"]


def suspects(course: Course, directory: Path, upto: int) -> list[Owned]:
    """The functions of the chapters up to that one in which the directory differs from the reference, latest first."""
    owned = [one for chapter in reversed(course.upto(upto)) for one in chapter.owns]
    return [one for one in owned if tree.form_of(directory, one) not in ("reference", "missing")]


def blame(course: Course, directory: Path, chapter: Chapter, test: str, *, seed: int = 0) -> list[Owned] | None:
    """The functions that make the test red; None if it is red with all of them replaced: the fault lies elsewhere."""
    candidates = suspects(course, directory, chapter.number)
    with tempfile.TemporaryDirectory(prefix="metcd-blame-") as scratch:
        copy = Path(scratch) / "copy"
        for package in course.packages:
            shutil.copytree(directory / package, copy / package, ignore=tree.LEFT_OUT)

        def green(replaced: Sequence[Owned]) -> bool:
            originals = [(one, _text(directory, one)) for one in candidates]
            tree.put(copy, originals)
            tree.put(copy, ((one, tree.reference(one)) for one in replaced))
            return check.run(course, copy, chapter, seed=seed, only=[test]).green

        return minimal(candidates, green) if candidates and green(candidates) else None


def _text(directory: Path, owned: Owned) -> str:
    return cut.source_of((directory / owned.path).read_text("utf-8"), owned.name)


def minimal(candidates: Sequence[Owned], green: Callable[[Sequence[Owned]], bool]) -> list[Owned]:
    """ddmin: a smallest part of the candidates that still is `green`. Requires: all of them together are."""
    kept, parts = list(candidates), 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        slices = [kept[at : at + size] for at in range(0, len(kept), size)]
        for one in slices:
            if green(one):
                kept, parts = one, 2
                break
        else:
            for one in slices if parts > 2 else []:
                rest = [candidate for candidate in kept if candidate not in one]
                if green(rest):
                    kept, parts = rest, max(parts - 1, 2)
                    break
            else:
                if parts >= len(kept):
                    break
                parts = min(len(kept), 2 * parts)
    return kept

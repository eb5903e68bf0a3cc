"""The author's check: that every chapter can fail, can be passed, and finds what it is there to find.

    python -m tutorial.learn.author              all chapters
    python -m tutorial.learn.author 4 9          these
    python -m tutorial.learn.author --only red --only mutants
    METCD_SHARE=0.2 python -m tutorial.learn.author      that share of the mutants and plants, drawn by METCD_SEED

For a chapter N, with the earlier chapters on the reference:

    red         N and later ones cut: each single test fails, by itself. A test that passes judges nothing of the chapter
    green       N on the reference, later ones cut: all pass. Nothing needs what is written later
    mutants     a bug of the museum is planted: the test that the museum names fails
    blame       a fault is planted in each owned function in turn: of all functions of the chapters up to N, `blame` names
                that one. Where no test of the chapter notices the fault, the function isn't tested: that is a failure, too
    listings    what the page shows and names is in the repository, and its commands print what it says

Exit code 1 if anything is not as it should be. A fault is planted as a learner would make it, in a course directory in
which the other functions of the chapter are the learner's as well: equal to the reference, under other names of variables
(a comment doesn't count as a difference, a name does), so that blame has to search.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tutorial.learn import blame, check, course, cut, pages, tree, walk
from tutorial.learn.course import REPOSITORY, Chapter, Course, Owned
from tutorial.learn.errors import CourseError

__all__ = ["ASPECTS", "Finding", "main"]

Drawn = TypeVar("Drawn")
SEED = int(os.environ.get("METCD_SEED", "0"))
SHARE = float(os.environ.get("METCD_SHARE", "1"))


@dataclass
class Finding:
    """What one aspect of one chapter came to: a count in words, and sentences about what is wrong."""

    chapter: int
    aspect: str
    count: str = ""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def red(of: Course, chapter: Chapter, trees: Path) -> Finding:
    """Each test fails while the chapter is cut."""
    directory = trees / f"red{chapter.number}"
    tree.write(of, directory, tree.as_started(chapter.number))
    result = check.run(of, directory, chapter, seed=SEED)
    found = Finding(chapter.number, "red", f"{len(result.failed)} of {chapter.expect} tests red")
    if result.problem is not None:
        found.problems.append(result.problem)
    found.problems += [f"{test.name} passes, and nothing is written yet" for test in result.outcomes if test.passed]
    found.problems += [
        f"{test.name} is red for another reason than a missing function: {test.why}"
        for test in result.failed
        if not test.unwritten
    ]
    return found


def green(of: Course, chapter: Chapter, trees: Path) -> Finding:
    """All tests pass while only later chapters are cut."""
    directory = trees / f"green{chapter.number}"
    tree.write(of, directory, tree.as_done(chapter.number))
    begin = time.monotonic()
    result = check.run(of, directory, chapter, seed=SEED)
    passed = len(result.outcomes) - len(result.failed)
    found = Finding(chapter.number, "green", f"{passed} tests green in {time.monotonic() - begin:.1f} s")
    if result.problem is not None:
        found.problems.append(result.problem)
    found.problems += [f"{test.name}: {test.why}\n{test.full}" for test in result.failed]
    return found


def mutants(of: Course, chapter: Chapter, trees: Path) -> Finding:
    """Each planted bug is found by the test that is said to find it."""
    found = Finding(chapter.number, "mutants")
    drawn = _drawn(chapter.mutants, f"{SEED}:mutants:{chapter.number}")
    for mutant in drawn:
        directory = trees / f"mutant{chapter.number}-{mutant.name}"
        tree.write(of, directory, tree.as_done(chapter.number))
        tree.put(directory, [tree.mutate(of, mutant)])
        result = check.run(of, directory, chapter, seed=SEED, only=_test(chapter, mutant.killed_by), stop_at_first=True)
        killers = {test.name.partition("[")[0].rpartition("::")[2] for test in result.failed}
        if mutant.killed_by not in killers:
            found.problems.append(f"{mutant.name} is not killed by {mutant.killed_by}: {result.problem or 'it passes'}")
    found.count = f"{len(drawn) - len(found.problems)} of {len(drawn)} mutants killed"
    return found


def _test(chapter: Chapter, name: str) -> list[str]:
    """The ids of a test: in which of the chapter's files it stands, and in which class, if in one."""
    return [
        f"{file}::{found.replace('.', '::')}"
        for file in chapter.tests
        for found in cut.functions((REPOSITORY / file).read_text("utf-8"))
        if found.rpartition(".")[2] == name
    ]


def blames(of: Course, chapter: Chapter, trees: Path) -> Finding:
    """For a fault in each owned function, blame names it."""
    found = Finding(chapter.number, "blame")
    drawn = _drawn(chapter.owns, f"{SEED}:blame:{chapter.number}")
    for owned in drawn:
        directory = trees / f"blame{chapter.number}-{owned.name}"
        tree.write(of, directory, tree.as_done(chapter.number))
        tree.put(directory, ((one, renamed(tree.reference(one))) for one in chapter.owns))
        tree.put(directory, [(owned, planted(of, chapter, owned))])
        result = check.run(of, directory, chapter, seed=SEED, stop_at_first=True)
        if result.green or result.problem is not None:
            found.problems.append(f"no test notices a fault in {owned.name}" + (result.problem or ""))
            continue
        named = blame.blame(of, directory, chapter, result.failed[0].id, seed=SEED)
        if named != [owned]:
            words = "nothing" if not named else ", ".join(one.name for one in named)
            found.problems.append(f"a fault in {owned.name}, and for {result.failed[0].name} blame names {words}")
    found.count = f"blame right in {len(drawn) - len(found.problems)} of {len(drawn)}"
    return found


def listings(of: Course, chapter: Chapter, trees: Path) -> Finding:
    """What the page shows is there, and what it tells to type prints what it says."""
    problems = list(pages.problems(of, chapter))
    directory = trees / "course"
    directory.mkdir()
    problems += walk.walk(of, chapter, directory)
    shown = [block for block in pages.blocks(chapter.page) if block.info.startswith("console")]
    typed = sum(len(list(walk.commands(block.text))) for block in shown if "optional" not in block.info)
    titled = sum("title=" in block.info for block in pages.blocks(chapter.page))
    return Finding(chapter.number, "listings", f"{typed} commands and {titled} listings of the page", problems)


def planted(of: Course, chapter: Chapter, owned: Owned) -> str:
    """The function with a fault: that of a mutant where there is one, else it does nothing."""
    for mutant in chapter.mutants:
        if mutant.function == owned.id:
            return tree.mutate(of, mutant)[1]
    return tree.cut_alone(tree.reference(owned), owned, "return None")


def renamed(text: str) -> str:
    """The function as another person would have written it: its local variables have other names, and no comments."""
    node = copy.deepcopy(next(iter(cut.functions(textwrap.dedent(text)).values())))
    stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for other in ast.walk(node):  # what is said by a string in the tree, and not by a Name
        if isinstance(other, ast.Nonlocal | ast.Global):
            stored -= set(other.names)
        elif isinstance(other, ast.MatchAs | ast.MatchStar | ast.ExceptHandler):
            stored.discard(other.name or "")
        elif isinstance(other, ast.arg):
            stored.discard(other.arg)
    for name in ast.walk(node):
        if isinstance(name, ast.Name) and name.id in stored:
            name.id += "_"
    if not stored:  # a statement without effect makes the difference
        node.body.insert(1, ast.Pass())
    return textwrap.indent(ast.unparse(node) + "\n", text[: len(text) - len(text.lstrip(" "))])


def _drawn(all_of_them: Sequence[Drawn], seed: str) -> list[Drawn]:
    """The run's share of them, at least one."""
    if SHARE >= 1 or not all_of_them:
        return list(all_of_them)
    count = max(1, round(SHARE * len(all_of_them)))
    return random.Random(seed).sample(list(all_of_them), count)


Aspect = Callable[[Course, Chapter, Path], Finding]
ASPECTS: dict[str, Aspect] = {"red": red, "green": green, "mutants": mutants, "blame": blames, "listings": listings}


def _findings(of: Course, chapters: Sequence[Chapter], aspects: Sequence[str], workers: int) -> Iterator[Finding]:
    def one(work: tuple[Chapter, str]) -> Finding:
        chapter, aspect = work
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="metcd-author-") as scratch:
            try:
                found = ASPECTS[aspect](of, chapter, Path(scratch))
            except CourseError as error:
                found = Finding(chapter.number, aspect, problems=[str(error)])
        found.seconds = time.monotonic() - begin
        return found

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(one, [(chapter, aspect) for chapter in chapters for aspect in aspects])


def main(words: Sequence[str] | None = None) -> int:
    """Runs it, and prints a line for each chapter and aspect."""
    parser = argparse.ArgumentParser("python -m tutorial.learn.author", description="The author's check.")
    parser.add_argument("chapters", type=int, nargs="*", metavar="N", help="these chapters; all if none is given")
    parser.add_argument("--only", action="append", choices=ASPECTS, help="this aspect; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time (2)")
    told = parser.parse_args(words)
    of = course.load()
    chapters = [of.chapter(number) for number in told.chapters] or list(of.chapters)
    print(f"METCD_SEED={SEED} METCD_SHARE={SHARE:g}", flush=True)
    wrong = 0
    for found in _findings(of, chapters, told.only or list(ASPECTS), told.workers):
        wrong += len(found.problems)
        print(f"chapter {found.chapter:2}  {found.count}  ({found.seconds:.0f} s)", flush=True)
        for problem in found.problems:
            print(textwrap.indent(f"{found.aspect}: {problem}", "    "), flush=True)
    print("all as it should be" if not wrong else f"{wrong} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

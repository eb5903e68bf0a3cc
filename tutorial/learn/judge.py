"""`check`, `trace` and `blame`: is it right; what happened; and which function is wrong.

A red check ends with the one command that repeats it. A green one marks the predictions and becomes a commit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tutorial.learn import blame as search
from tutorial.learn import check as checks
from tutorial.learn import cut, screen, state, tree
from tutorial.learn.check import Outcome, Result
from tutorial.learn.course import REPOSITORY, Chapter
from tutorial.learn.errors import LearnError
from tutorial.learn.films import write_film
from tutorial.learn.place import Place
from tutorial.learn.quiz import mark
from tutorial.learn.screen import counted, say

__all__ = ["blame", "check", "repeat", "trace", "watch"]

SHOWN = 3  # failures in full; the others by name
WHY_LINES = 14
TRACE_LINES = 60  # of a history; the last ones led to the failure


def check(
    place: Place, number: int | None, *, seed: int = 0, test: str | None = None, all_of_them: bool = False
) -> bool:
    """Runs a chapter's tests; True if all are green."""
    if (problem := checks.unreadable(place.course, place.directory)) is not None:
        raise LearnError(
            f"{problem}\nThe command that repeats this: {repeat(place.chapter(number).number, seed, test)}"
        )
    chapter = place.started(number)
    if all_of_them:
        return all(_check(place, each, seed, None) for each in place.course.upto(chapter.number))
    return _check(place, chapter, seed, test)


def _check(place: Place, chapter: Chapter, seed: int, test: str | None) -> bool:
    only = [_id(chapter, test)] if test else []
    with screen.busy(f"checking chapter {chapter.number}"):
        result = checks.run(place.course, place.directory, chapter, seed=seed, only=only)
    place.remember(result)
    if not result.green:
        _tell_red(place, result)
    elif test:
        say(f"{test} is green.", "green")
    else:
        _tell_green(place, result)
    return result.green


def _id(chapter: Chapter, test: str) -> str:
    """The test's place: the chapter's file that has it. Raises LearnError if none has."""
    name = test.partition("[")[0].rpartition("::")[2]
    for file in chapter.tests:
        if re.search(rf"^\s*def {re.escape(name)}\(", (REPOSITORY / file).read_text("utf-8"), re.MULTILINE):
            return f"{file}::{test.rpartition('.py::')[2]}"
    raise LearnError(f"chapter {chapter.number} has no test {test}: `metcd learn check {chapter.number}` names them")


def _tell_green(place: Place, result: Result) -> None:
    chapter = result.chapter
    say(f"Chapter {chapter.number} is green: {len(result.outcomes)} of {chapter.expect} tests.", "bold green")
    first = chapter.number not in place.state.green
    if first:
        place.state.green.append(chapter.number)
    place.save(f"Chapter {chapter.number} is green: {chapter.title}")
    if not first:
        return
    mark(place, chapter)
    if chapter.mutants:
        say(f"Break it: `metcd learn break {chapter.number}`.")
    following = [each for each in place.course.chapters if each.number > chapter.number]
    if following:
        say(f"Next: `metcd learn start {following[0].number}`, {following[0].title}.")


def _tell_red(place: Place, result: Result) -> None:
    chapter = result.chapter
    again = repeat(chapter.number, result.seed, None)
    if result.problem is not None and not result.failed:
        raise LearnError(f"{result.problem}\nThe command that repeats this: {again}")
    broken = chapter.number in place.state.green
    if broken:
        place.state.green.remove(chapter.number)
        state.save(place.directory, place.state)
    passed = len(result.outcomes) - len(result.failed)
    of = max(result.collected, len(result.outcomes))
    say(
        f"Chapter {chapter.number}: {passed} of {counted(of, 'test')} {'is' if 1 in (passed, of) else 'are'} green.",
        "bold",
    )
    if broken:
        say("It was green before: `git diff` shows what was changed since the last commit.")
    written = [test for test in result.failed if not test.unwritten]
    for test in written[:SHOWN]:
        say()
        _tell_failure(place, test)
    if len(written) > SHOWN:
        say()
        say(f"{len(written) - SHOWN} more:")
        for test in written[SHOWN:]:
            say(f"  {test.name}")
    _tell_unwritten(result)
    if result.problem is not None:
        say(f"\n{result.problem}.")
    first = (written or result.failed)[0]
    say()
    if any(test.trace for test in written):
        say("What happened before it failed: metcd learn trace; as a film: metcd learn trace --html film.html")
    if written:
        say(f"Which function is it? metcd learn blame {chapter.number}")
    say(f"The first one again: {repeat(chapter.number, result.seed, first.name)}")


def _tell_failure(place: Place, test: Outcome) -> None:
    say(f"red: {test.name}", "red")
    for line in _why(place, test):
        say(f"  {line}")


def _why(place: Place, test: Outcome) -> Iterator[str]:
    """The failure, and where in the learner's code it happened."""
    where = located(place.directory, test.where)
    if test.why.startswith("Failed: Timeout"):
        yield f"it took more than {checks.TIME_LIMIT_S} s and was stopped" + (f" in {where}" if where else "")
        yield "is there a loop that doesn't end?"
        return
    lines = test.why.removeprefix("AssertionError: ").splitlines()
    lines = [re.sub(r" (?:object )?at 0x[0-9a-f]+", "", line) for line in lines]
    lines = [line for line in lines if line.strip() and not line.strip().startswith("Use -v to get more diff")]
    yield from lines[:WHY_LINES]
    if len(lines) > WHY_LINES:
        yield f"... and {counted(len(lines) - WHY_LINES, 'line')}: metcd learn trace --full"
    if where:
        yield f"in {where}"


def located(directory: Path, where: str | None) -> str | None:
    """ "engines/a.py:12 in insert" as "SkipList.insert, engines/a.py:12"."""
    found = re.fullmatch(r"(.+):(\d+) in (.+)", where or "")
    if found is None:
        return where
    path, line, name = found[1], int(found[2]), found[3]
    try:
        functions = cut.functions((directory / path).read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        functions = {}
    inside = [whole for whole, node in functions.items() if node.lineno <= line <= (node.end_lineno or 0)]
    return f"{inside[-1] if inside else name}, {path}:{line}"


def _tell_unwritten(result: Result) -> None:
    waiting = Counter(test.why.rpartition(" ")[2] for test in result.failed if test.unwritten)
    if waiting:
        say()
        say(
            f"{counted(waiting.total(), 'test')} {'waits' if waiting.total() == 1 else 'wait'} for what is to be written:"
        )
        for name, count in waiting.most_common():
            say(f"  {name}  ({count})")


def repeat(number: int, seed: int, test: str | None) -> str:
    """The command that does it again."""
    words = ["metcd learn check", str(number)]
    words += ["--seed", str(seed)] if seed else []
    if test:
        words += ["--test", f"'{test}'" if re.search(r"[^\w.:-]", test) else test]
    return " ".join(words)


def watch(place: Place, number: int | None, *, seed: int = 0) -> None:
    """Checks again whenever a file is saved, until Ctrl-C."""
    from watchfiles import PythonFilter
    from watchfiles import watch as changes

    folders = [place.directory / package for package in place.course.packages]
    _watched(place, number, seed)
    for _ in changes(*folders, watch_filter=PythonFilter()):
        _watched(place, number, seed)


def _watched(place: Place, number: int | None, seed: int) -> None:
    say()
    try:
        check(place, number, seed=seed)
    except LearnError as error:
        say(str(error), "red")
    say("Waiting for a file to be saved; Ctrl-C ends it.", "dim")


def trace(place: Place, test: str | None, *, full: bool = False, html: Path | None = None) -> None:
    """Prints the history of a test that failed in the last check; `html`: writes it as a film into this file."""
    last = place.last()
    if not last.failed:
        say(f"The last check, of chapter {last.chapter}, was green: there is nothing to show.")
        return
    named = [one for one in last.failed if test is None or test in (one.id, one.name, one.name.partition("[")[0])]
    if not named:
        raise LearnError(f"{test} did not fail in the last check; these did: {', '.join(t.name for t in last.failed)}")
    told = next((one for one in named if one.trace), next((one for one in named if not one.unwritten), named[0]))
    _tell_failure(place, told)
    if html is not None:
        write_film(html, told)
    elif told.trace:
        say()
        lines = told.trace.splitlines()
        if not full and len(lines) > TRACE_LINES:
            say(f"({len(lines) - TRACE_LINES:,} lines before these: metcd learn trace --full)")
            lines = lines[-TRACE_LINES:]
        say("\n".join(lines))
    else:
        say("This test writes no history down.")
    if full or (not told.trace and html is None):
        say()
        say(told.full)
    say()
    say(f"Again: {repeat(last.chapter, last.seed, told.name)}")


def blame(place: Place, number: int | None, *, seed: int = 0) -> None:
    """Names the functions that make a test red."""
    chapter = place.started(number)
    last = place.last() if place.last_file.exists() else None
    failed = last.failed if last is not None and last.chapter == chapter.number else ()
    seed = last.seed if failed and last is not None else seed
    wrong = [test for test in failed if not test.unwritten]
    if not wrong:
        with screen.busy(f"checking chapter {chapter.number}"):
            result = checks.run(place.course, place.directory, chapter, seed=seed)
        place.remember(result)
        if result.problem is not None and not result.failed:
            raise LearnError(f"{result.problem}\nThe command that repeats this: metcd learn blame {chapter.number}")
        failed, wrong = result.failed, [test for test in result.failed if not test.unwritten]
    if not failed:
        say(f"Chapter {chapter.number} is green: no function is to blame.")
        return
    if not wrong:
        waiting = dict.fromkeys(test.why.rpartition(" ")[2] for test in failed)
        say(f"Nothing is wrong; these are still to be written: {', '.join(waiting)}.")
        return
    _blame(place, chapter, wrong[0], seed)
    if len(wrong) > 1:
        say(f"{counted(len(wrong) - 1, 'other test')} may have another cause: mend this one, and check again.")


def _blame(place: Place, chapter: Chapter, test: Outcome, seed: int) -> None:
    with screen.busy("putting the reference's functions in the place of yours"):
        if checks.run(place.course, place.directory, chapter, seed=seed, only=[test.id]).green:
            say(f"{test.name} is green now: metcd learn check {chapter.number}")
            return
        suspects = search.suspects(place.course, place.directory, chapter.number)
        named = search.blame(place.course, place.directory, chapter, test.id, seed=seed)
    say(f"red: {test.name}", "red")
    if named is None:
        _tell_elsewhere(place)
    else:
        each = "this one makes" if len(named) == 1 else "these together make"
        say(f"Of {counted(len(suspects), 'function')} of yours, {each} it red:")
        for owned in named:
            line = cut.functions((place.directory / owned.path).read_text("utf-8"))[owned.name].lineno
            say(f"  {owned.name}, {owned.path}:{line}", "bold")
        say("With the reference's in its place the test is green." if len(named) == 1 else
            "With the reference's in their place the test is green.")  # fmt: skip
        say(f"Help: metcd learn hint {named[0].chapter} {named[0].name}")
    say(f"Again: {repeat(chapter.number, seed, test.name)}")


def _tell_elsewhere(place: Place) -> None:
    say("It stays red with the reference's functions in the place of all of yours: the fault lies outside of them.")
    changed = given_changes(place)
    for path in changed:
        say(f"  {path} was changed outside of the functions that you write", "bold")
    if changed:
        say("`metcd learn diff --given` shows it.")


def given_changes(place: Place) -> dict[str, tuple[str, str]]:
    """Files that differ outside of the owned functions: path → the text as given, and as it is, with the same functions."""
    found = {}
    for package in place.course.packages:
        for ours in sorted((REPOSITORY / package).rglob("*.py")):
            path = ours.relative_to(REPOSITORY).as_posix()
            theirs = place.directory / path
            given, text = ours.read_text("utf-8"), theirs.read_text("utf-8") if theirs.exists() else ""
            for owned in place.course.owned.values():
                if owned.path == path and text and tree.form_of(place.directory, owned) != "missing":
                    text = cut.swap(text, owned.name, tree.reference(owned))
            if text != given:
                found[path] = given, text
    return found

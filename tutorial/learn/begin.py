"""`init` and `start`: a course directory is made, and a chapter is begun in it.

                        functions of chapter N             functions of earlier chapters
    init                the working default                the working default
    start N             to be written                      unchanged; refused unless these chapters are done
    start N --catch-up  to be written                      from the reference, where they are not written, or not right

Nothing that a learner wrote is overwritten: a function of the chapter that isn't as it was cut stays as it is, and
everything is committed before anything is changed. A chapter that was filled in by `--catch-up` is emptied by its own
`start`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tutorial.learn import check, course, cut, git, screen, state, tree
from tutorial.learn.course import REPOSITORY, Chapter, Owned
from tutorial.learn.errors import LearnError
from tutorial.learn.place import Place
from tutorial.learn.screen import counted, prose, say

__all__ = ["init", "start"]

IGNORED = "__pycache__/\n*.pyc\n/.course/last.json\n/data/\n"
ABOUT = """\
# My metcd

The packages here are metcd's, and the bodies that the tutorial's chapters ask for are cut out. You write them.

    metcd learn status         where you are
    metcd learn start 1        begins a chapter
    metcd learn predict        what will happen? Asked before you know
    metcd learn check          is it right?
    metcd learn blame          which of your functions is the wrong one
    metcd learn hint           the next hint

The chapters' pages are in {pages}. Each chapter whose check is green becomes a commit here.
"""


def init(directory: Path) -> None:
    """Makes a course directory. Raises LearnError if something is there already."""
    of = course.load()
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        hint = ": it is a course directory already" if (directory / state.FOLDER).is_dir() else ""
        raise LearnError(f"{directory} is not empty{hint}; nothing was changed. Choose a new one")
    if any(directory.is_relative_to(REPOSITORY / package) for package in (*of.packages, "tutorial", "tests")):
        raise LearnError(f"{directory} lies in a folder that is copied: choose one outside of it")
    directory.mkdir(parents=True, exist_ok=True)
    git.init(directory)  # first: without git nothing is left half made but an empty folder
    tree.write(of, directory, lambda owned: "until")
    (directory / ".gitignore").write_text(IGNORED, "utf-8")
    (directory / "README.md").write_text(ABOUT.format(pages=REPOSITORY / "tutorial"), "utf-8")
    state.save(directory, state.State(of.version))
    git.commit(directory, f"The course, version {of.version}: nothing is written yet")
    say(f"{directory} is your course directory: {counted(len(of.owned), 'function')} to write, in "
        f"{counted(len(of.chapters), 'chapter')}.")  # fmt: skip
    say("Next:")
    if shutil.which("metcd") != str(Path(sys.executable).with_name("metcd")):
        say(f"  source {Path(sys.executable).with_name('activate')}")
    say(f"  cd {directory}")
    say("  metcd learn start 1")


def start(place: Place, number: int, *, catch_up: bool = False) -> None:
    """Begins a chapter: its functions are to be written now, and its tests are red."""
    chapter = place.course.chapter(number)
    missing = [earlier for earlier in place.course.upto(number - 1) if not place.done(earlier)]
    if missing and not catch_up:
        names = _listed([str(earlier.number) for earlier in missing])
        raise LearnError(
            f"{'chapter' if len(missing) == 1 else 'chapters'} {names} {'is' if len(missing) == 1 else 'are'} not green "
            f"yet: go on with `metcd learn start {missing[0].number}`, or fill in what is missing there from the "
            f"reference with `metcd learn start {number} --catch-up`"
        )
    place.keep(f"What there was before chapter {number}")
    for earlier in missing:
        _fill(place, earlier)
    _empty(place, chapter)
    place.state.started = [other for other in place.state.started if other != number] + [number]
    place.save(f"Chapter {number} begins: {chapter.title}")
    _tell(place, chapter)


def _fill(place: Place, chapter: Chapter) -> None:
    """Puts the reference where the chapter isn't written; all of it, if what is written there isn't right."""
    forms = {owned: tree.form_of(place.directory, owned) for owned in chapter.owns}
    gone = [owned for owned, form in forms.items() if form == "missing"]
    for owned in gone:
        _restore(place, owned)
    taken = [owned for owned in chapter.owns if forms[owned] not in ("reference", "written")]
    tree.put(place.directory, ((owned, tree.reference(owned)) for owned in taken))
    if "written" in forms.values():
        with screen.busy(f"checking chapter {chapter.number}"):
            right = check.run(place.course, place.directory, chapter).green
        if not right:
            taken = [owned for owned in chapter.owns if forms[owned] != "reference"]
            tree.put(place.directory, ((owned, tree.reference(owned)) for owned in taken))
            say(f"Chapter {chapter.number} was begun and is not green: all of it is the reference's now. What you wrote "
                "is in the last commit (`git log -p`).")  # fmt: skip
    place.state.filled += [owned.id for owned in taken if owned.id not in place.state.filled]
    if taken:
        say(f"Chapter {chapter.number}: {counted(len(taken), 'function')} from the reference.")


def _empty(place: Place, chapter: Chapter) -> None:
    """Makes the chapter's functions ones to be written: those at their default, filled in, or missing."""
    for owned in chapter.owns:
        form = tree.form_of(place.directory, owned)
        if form == "missing":
            _restore(place, owned)
        elif form == "until" or (form == "reference" and owned.id in place.state.filled):
            tree.put(place.directory, [(owned, tree.text_of(owned, "asked"))])
    ids = {owned.id for owned in chapter.owns}
    place.state.filled = [one for one in place.state.filled if one not in ids]


def _restore(place: Place, owned: Owned) -> None:
    """Puts an empty function back that was renamed or removed: after the one that it follows in the reference."""
    path = place.directory / owned.path
    ours = (REPOSITORY / owned.path).read_text("utf-8")
    if not path.exists():
        raise LearnError(f"{owned.path} is gone: `git checkout HEAD -- {owned.path}` brings it back")
    text = path.read_text("utf-8")
    parent = owned.name.rpartition(".")[0]
    there, siblings = cut.functions(text), [name for name in cut.functions(ours) if name.rpartition(".")[0] == parent]
    neighbours = [name for name in siblings if name in there]
    if not neighbours:
        raise LearnError(
            f"{owned.path} has no {owned.name}, and nothing that stands beside it: `git log -p {owned.path}` has it"
        )
    before = [name for name in neighbours if siblings.index(name) < siblings.index(owned.name)]
    empty, gap = tree.text_of(owned, "asked"), "\n" if parent else "\n\n"
    name = before[-1] if before else neighbours[0]
    standing = cut.source_of(text, name)
    both = f"{standing}{gap}{empty}" if before else f"{empty}{gap}{standing}"
    path.write_text(cut.swap(text, name, both), "utf-8")
    say(f"{owned.name} was not there: an empty one is, in {owned.path}.")


def _tell(place: Place, chapter: Chapter) -> None:
    """What to read, what to write, and that its tests are red."""
    say(f"Chapter {chapter.number}: {chapter.title} (about {counted_hours(chapter.hours)})", "bold")
    prose(chapter.outcome)
    say()
    say(f"The page: {min(str(chapter.page), os.path.relpath(chapter.page), key=len)}")
    say(
        f"You write {counted(len(chapter.owns), 'function')}, best in this order; the docstring of each says what it has to do:"
    )
    width = max(len(owned.name) for owned in chapter.owns)
    for owned in chapter.owns:
        say(f"  {owned.name:{width}}  {owned.path}")
    say()
    with screen.busy("running its tests"):
        result = check.run(place.course, place.directory, chapter)
    place.remember(result)
    if result.problem is not None:
        raise LearnError(f"{result.problem}\nThe command that repeats this: metcd learn start {chapter.number}")
    red = len(result.failed)
    as_due = red and len(list(tree.untouched(place.directory, chapter.owns))) == len(chapter.owns)
    say(f"{red} of {chapter.expect} tests are red" + (", as they must be: nothing is written yet." if as_due else "."))
    if result.failed:
        first = result.failed[0]
        say(f"The first: {first.name}", "red")
        say(f"  {first.why.splitlines()[0]}")
    say()
    predict = f"`metcd learn predict {chapter.number}`, then " if chapter.predictions else ""
    say(f"Next: {predict}write, and `metcd learn check {chapter.number}`.")


def counted_hours(hours: float) -> str:
    return counted(int(hours), "hour") if hours == int(hours) else f"{hours:g} hours"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

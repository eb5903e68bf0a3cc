"""`hint`, `show` and `diff`: help in small steps, the solution, and what one has written."""

from __future__ import annotations

from tutorial.learn import cut, screen, tree
from tutorial.learn.course import Owned
from tutorial.learn.errors import LearnError
from tutorial.learn.judge import given_changes
from tutorial.learn.place import Place
from tutorial.learn.screen import prose, say

__all__ = ["diff", "hint", "show"]


def hint(place: Place, number: int | None, name: str | None) -> None:
    """The next hint for a function: the named one, or the chapter's first that is not written."""
    chapter = place.chapter(number)
    if name is not None:
        owned = place.owned(chapter, name)
    else:
        unwritten = place.unwritten(chapter)
        if not unwritten:
            raise LearnError(
                f"every function of chapter {chapter.number} is written: name one, `metcd learn hint {chapter.number} "
                f"{chapter.owns[0].name}`; `metcd learn blame {chapter.number}` finds the one that is wrong"
            )
        owned = unwritten[0]
    hints = chapter.hints[owned.name]
    given = place.state.hints.get(owned.id, 0)
    shown = min(given, len(hints) - 1)
    say(f"{owned.name}, hint {shown + 1} of {len(hints)}:", "bold")
    prose(hints[shown], "  ")
    place.state.hints[owned.id] = shown + 1
    place.save(f"Chapter {chapter.number}: hint {shown + 1} for {owned.name}")
    if shown + 1 == len(hints):
        say(f"That is the last one. The solution: metcd learn show {chapter.number} {owned.name}")
    else:
        say(f"The next one: metcd learn hint {chapter.number} {owned.name}")


def show(place: Place, number: int | None, name: str | None, *, apply: bool = False, yes: bool = False) -> None:
    """The reference's function: in full where nothing is written, else as a difference; `apply` puts it there."""
    chapter = place.chapter(number)
    owned = [place.owned(chapter, name)] if name else list(chapter.owns)
    if apply and name is None:
        raise LearnError(f"name one function to take: metcd learn show {chapter.number} {owned[0].name} --apply")
    remembered = f"chapter {chapter.number}"
    if remembered not in place.state.shown:
        if not yes and not screen.confirm(
            f"Show the solution of chapter {chapter.number}? It is kept that you looked."
        ):
            say(f"Not shown. A hint: metcd learn hint {chapter.number} {owned[0].name}")
            return
        place.state.shown.append(remembered)
    for one in owned:
        _show(place, one)
    place.state.shown += [one.id for one in owned if one.id not in place.state.shown]
    if apply:
        _apply(place, owned[0])
    else:
        place.save(f"Chapter {chapter.number}: looked at {name or 'the solution'}")


def _show(place: Place, owned: Owned) -> None:
    form, reference = tree.form_of(place.directory, owned), tree.reference(owned)
    say(f"{owned.path}::{owned.name}", "bold")
    if form == "written":
        say("from yours to the reference's:")
        screen.differences(place.text(owned), reference, owned.name)
    else:
        say(reference)
        if form == "reference":
            say("Yours is the same.")


def _apply(place: Place, owned: Owned) -> None:
    mine = place.text(owned)
    place.keep(f"What there was before {owned.name} was taken from the reference")
    tree.put(place.directory, [(owned, tree.reference(owned))])
    place.save(f"Chapter {owned.chapter}: {owned.name} is the reference's")
    say(f"It stands in {owned.path} now.")
    if cut.same(mine, tree.text_of(owned, "asked")):
        return
    say(f"Yours is in the commit before: git show HEAD~1:{owned.path}")


def diff(place: Place, number: int | None, *, given: bool = False) -> None:
    """What was written: from the functions as they were cut to the learner's; `given`: outside of them."""
    if given:
        _diff_given(place)
        return
    chapter = place.chapter(number)
    if not any(_diff(place, owned) for owned in chapter.owns):
        say(f"Nothing of chapter {chapter.number} is written yet.")


def _diff(place: Place, owned: Owned) -> bool:
    text = place.text(owned)
    if any(cut.same(text, tree.text_of(owned, form)) for form in ("asked", "until")):
        return False
    say(f"{owned.path}::{owned.name}", "bold")
    return screen.differences(tree.text_of(owned, "asked"), text, owned.name)


def _diff_given(place: Place) -> None:
    changes = given_changes(place)
    for path, (before, after) in changes.items():
        say(path, "bold")
        screen.differences(before, after, path)
    if not changes:
        say("Outside of the functions that the chapters ask for, nothing was changed.")

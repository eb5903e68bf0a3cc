"""`status`: where one is in the course, chapter by chapter."""

from __future__ import annotations

from collections import Counter

from tutorial.learn import check, tree
from tutorial.learn.course import Chapter
from tutorial.learn.place import Place
from tutorial.learn.screen import counted, say

__all__ = ["status"]


def status(place: Place) -> None:
    """A line for each chapter, then what to type next."""
    unreadable = check.unreadable(place.course, place.directory)
    for chapter in place.course.chapters:
        word, style = _state(place, chapter) if unreadable is None else ("", "")
        star = "*" if place.state.started[-1:] == [chapter.number] else " "
        say(f"{star}{chapter.number:3}  {chapter.title:<44} {word}".rstrip(), style)
    hints, shown = sum(place.state.hints.values()), sum("::" in one for one in place.state.shown)
    say()
    say(f"{counted(len(place.state.green), 'chapter')} green, {counted(hints, 'hint')}, "
        f"{counted(shown, 'solution')} looked at.")  # fmt: skip
    if unreadable is not None:
        say(unreadable, "red")
        return
    current = place.state.started[-1] if place.state.started else None
    if current is not None and not place.done(place.course.chapter(current)):
        say(f"Next: write, and `metcd learn check {current}`.")
        return
    waiting = [chapter for chapter in place.course.chapters if not place.done(chapter)]
    say(f"Next: `metcd learn start {waiting[0].number}`." if waiting else "All of it is done.")


def _state(place: Place, chapter: Chapter) -> tuple[str, str]:
    """In words, with the style to print them in."""
    forms = Counter(tree.form_of(place.directory, owned) for owned in chapter.owns)
    if chapter.number in place.state.green:
        return "green", "green"
    if forms["reference"] == len(chapter.owns):
        return "from the reference", "dim"
    if chapter.number in place.state.started:
        return f"{forms['written'] + forms['reference']} of {counted(len(chapter.owns), 'function')} written", "bold"
    return "", ""

"""The commands of a page, run as a learner would type them, in a fresh course directory, and their output compared.

Before the mark `solved` the directory is that of somebody who has just finished the chapter before; after it, the chapter's
functions are the reference's. `...` in an output stands for anything; white space counts as one space. What is typed into
a command stands in the block's info string: ```console input="yes"```.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tutorial.learn import git, pages, state, tree
from tutorial.learn.course import Chapter, Course, Owned

__all__ = ["commands", "prepare", "walk"]

LIMIT_S = 120  # of one command
INPUT = re.compile(r'input="([^"]*)"')


def prepare(course: Course, chapter: Chapter, directory: Path) -> None:
    """Makes the course directory in which the page begins."""

    def form(owned: Owned) -> tree.Form:
        return "reference" if owned.chapter < chapter.number else "until"

    tree.write(course, directory, form)
    before = [one.number for one in course.chapters if one.number < chapter.number]
    state.save(directory, state.State(course.version, started=before, green=before))
    git.init(directory)
    git.commit(directory, f"before chapter {chapter.number}")


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that follows it."""
    command, output = "", ""
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:].strip(), ""
        else:
            output += line
    if command:
        yield command, output


def walk(course: Course, chapter: Chapter, directory: Path) -> Iterator[str]:
    """Runs the page's commands; yields what went otherwise than the page says."""
    prepare(course, chapter, directory)
    solved = False
    for block in pages.blocks(chapter.page):
        if not block.info.startswith("console") or "optional" in block.info:
            continue
        if block.solved and not solved:
            tree.put(directory, ((owned, tree.reference(owned)) for owned in chapter.owns))
            solved = True
        typed = INPUT.search(block.info)
        for command, wanted in commands(block.text):
            shown = _run(command, directory, typed.group(1).replace("\\n", "\n") + "\n" if typed else "")
            if not doctest.OutputChecker().check_output(wanted, shown, pages.OPTIONS):
                yield f"line {block.line}: {command} printed\n{shown}\nand the page says\n{wanted}"


def _run(command: str, directory: Path, typed: str) -> str:
    """What the command prints, on both channels."""
    words = shlex.split(command)
    here = Path(sys.executable).parent
    if words[0] == "python":
        words[0] = sys.executable
    elif words[0] == "metcd":
        words[0] = str(here / "metcd")
    else:
        return f"a page's commands begin with metcd or python, and this one with {words[0]}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("METCD_", "PYTEST_"))}
    try:
        done = subprocess.run(
            words,
            cwd=directory,
            env=clean | {"NO_COLOR": "1", "COLUMNS": "120", "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return f"nothing for {LIMIT_S} s, and was stopped"
    return done.stdout

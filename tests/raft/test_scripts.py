"""The project's own scripts (tests/raft/scripts): runs that read as stories, and print what they say."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from raft.interaction import first_difference, parse_script
from raft.interaction.commands import COMMANDS

FOLDER = Path(__file__).parent / "scripts"
FILES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_script_prints_what_it_says(file: Path) -> None:
    """`python -m raft.interaction --rewrite` writes a script anew, if a change is meant."""
    difference = first_difference(parse_script(str(file), file.read_text("utf-8")), random.Random(0))
    assert difference is None, str(difference)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_script_tells_what_is_about_to_happen(file: Path) -> None:
    """It opens with a sentence, and no long stretch of commands stands without one, unless its output is silenced."""
    directives = parse_script(str(file), file.read_text("utf-8")).directives
    assert directives[0].head.startswith("# ")
    untold = 0
    for directive in directives:
        quiet = directive.expected == "ok\n"
        untold = 0 if "#" in directive.head else untold + (not quiet)
        assert untold <= 7, f"{directive.where}: say what these commands show"


def test_the_scripts_are_listed_in_the_order_in_which_to_read_them() -> None:
    listed = re.findall(r"^\| `(.*\.txt)` \|", (FOLDER / "README.md").read_text("utf-8"), flags=re.M)
    assert listed == [file.name for file in FILES]


def test_the_scripts_use_every_command_but_the_breakpoint() -> None:
    """What the vocabulary has, the stories show."""
    used = {
        directive.command for file in FILES for directive in parse_script(file.name, file.read_text("utf-8")).directives
    }
    assert set(COMMANDS) - used == {"_breakpoint"}

"""`python -m tutorial.learn.map`: writes the table of chapters in tutorial/README.md, from what each chapter.toml says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tutorial.learn import course
from tutorial.learn.course import REPOSITORY, Course
from tutorial.learn.screen import counted

__all__ = ["main", "table", "with_table"]

README = REPOSITORY / "tutorial" / "README.md"
PARTS = {1: "Foundations", 3: "Bitcask", 5: "The LSM tree", 11: "The B+tree", 14: "Compare", 15: "Raft", 19: "More"}
PLACE = re.compile(r"(<!-- map: [^>]*-->\n).*?(?=<!-- end of the map -->)", re.DOTALL)


def table(of: Course) -> str:
    """A row for each chapter, and the sums."""
    lines = ["| | chapter | what you have at its end | hours | you write |", "|---|---|---|---|---|"]
    for chapter in of.chapters:
        part = f"**{PARTS[chapter.number]}**" if chapter.number in PARTS else ""
        lines.append(
            f"| {part} | [{chapter.number}. {chapter.title}]({chapter.folder}/README.md) | {chapter.outcome} "
            f"| {chapter.hours:g} | {counted(len(chapter.owns), 'function')} |"
        )
    hours = sum(chapter.hours for chapter in of.chapters)
    lines.append(f"| | {counted(len(of.chapters), 'chapter')} | | {hours:g} | {counted(len(of.owned), 'function')} |")
    return "\n".join(lines) + "\n"


def with_table(text: str, of: Course) -> str:
    """The page with the table in its place."""
    return PLACE.sub(lambda found: f"{found[1]}\n{table(of)}\n", text)


def main(path: Path = README) -> int:
    """Writes it."""
    text = path.read_text("utf-8")
    path.write_text(with_table(text, course.load()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make book`: the chapters, the formats, the architecture and an API reference as a site that can be searched.

    book/pages/        the Markdown of the repository, at the same paths, with links that a site can follow
        source/        a page for each source file that some page names
        api/           a page for each module, filled from its docstrings by mkdocstrings
    book/site/         what is built from it; open index.html. It needs no network; the search needs a server, of this machine

The Markdown is written to be read in the repository. Here a relative link to another page stays what it is, a link to a
source file leads to its page under source/, and a path in backticks becomes such a link. A link that leads nowhere ends the
build: those to files are looked up here, those to headings by Zensical (--strict), which also takes no page for granted.

Zensical is made by the authors of Material for MkDocs, whose own maintenance ended in November 2026.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tutorial.learn import course
from tutorial.learn.course import REPOSITORY, Course
from tutorial.learn.map import with_table

__all__ = ["Book", "foreign_resources", "main"]

TARGET = REPOSITORY / "book"
PACKAGES = ("engines", "raft", "server", "bench")
MAP = "tutorial/README.md"

# Pages outside of the chapters, by part of the book, in reading order. Of those in a folder that ends in *, all.
PARTS: dict[str, tuple[str, ...]] = {
    "Formats": (
        "engines/lsm/FORMAT.md",
        "engines/lsm/LEVELDB.md",
        "engines/btree/FORMAT.md",
        "engines/bitcask/FORMAT.md",
        "engines/PRODUCERS.md",
    ),
    "The house": (
        "ARCHITECTURE.md",
        "engines/WRITE_AN_ENGINE.md",
        "server/IDENTITY.md",
        "raft/VERSIONS.md",
        "tests/raft/scripts/README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ),
}

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
TICKED = re.compile(r"(?<![`\[])`([\w./-]+\.[a-z]{1,4}|[\w-]+/[\w./-]*)`(?![`\]])")
ABSOLUTE = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?(https?:)?//[^"'> ]+""")
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "bash", ".json": "json", ".ini": "ini", ".c": "c", ".go": "go"}
SHOWN_BYTES = 200_000  # of a source file


@dataclass
class Book:
    """The pages as they are put together: which of the repository's files they are, and what is wrong with them."""

    target: Path = TARGET
    markdown: set[str] = field(default_factory=set)  # the files that are pages
    named: set[str] = field(default_factory=set)  # source files that need a page
    problems: list[str] = field(default_factory=list)

    @property
    def pages(self) -> Path:
        return self.target / "pages"

    def put_together(self) -> list[str]:
        """Writes every page and the settings. Returns what is wrong, one sentence each."""
        shutil.rmtree(self.target, ignore_errors=True)
        of = course.load()
        parts = self.parts(of)
        self.markdown = {path for paths in parts.values() for path in paths}
        for path in sorted(self.markdown):
            text = (REPOSITORY / path).read_text("utf-8")
            self._write(_name(path), self.rewritten(path, with_table(text, of) if path == MAP else text))
        modules = list(self.modules())
        for path in modules:
            self._write(_api(path), f"# `{_module(path)}`\n\n[Its source]({_up(_api(path))}{_source(path)})\n\n"
                        f"::: {_module(path)}\n")  # fmt: skip
            self.named.add(path)
        for picture in sorted((REPOSITORY / "docs").rglob("*.svg")):  # README's, which HTML names and no link
            self._write(picture.relative_to(REPOSITORY).as_posix(), picture.read_text("utf-8"))
        self._write("api/index.md", self._index(modules))
        for path in sorted(self.named):
            self._write(_source(path), _shown(path))
        settings = Path(__file__).with_name("zensical.toml").read_text("utf-8")
        settings = settings.replace('"NAV"', _toml(self.nav(parts, modules))).replace("ROOT", REPOSITORY.as_posix())
        (self.target / "zensical.toml").write_text(settings, "utf-8")
        return self.problems

    def parts(self, of: Course) -> dict[str, tuple[str, ...]]:
        """The Markdown of the book, by part."""
        chapters = tuple(f"tutorial/{chapter.folder}/README.md" for chapter in of.chapters)
        return {"": ("README.md",), "The tutorial": ("tutorial/README.md", *chapters), **PARTS}

    def nav(self, parts: dict[str, tuple[str, ...]], modules: list[str]) -> list[object]:
        """The tree of pages."""
        told: list[object] = [{"metcd": "index.md"}]
        for part, paths in parts.items():
            if part:
                told.append({part: [{self._title(path): _name(path)} for path in paths]})
        packages = []
        for package in PACKAGES:
            inside = [path for path in modules if path.startswith(f"{package}/")]
            packages.append({package: [{_module(path): _api(path)} for path in inside]})
        return [*told, {"API": [{"All modules": "api/index.md"}, *packages]}]

    def _title(self, path: str) -> str:
        found = re.search(r"^# (.+)$", (REPOSITORY / path).read_text("utf-8"), re.MULTILINE)
        if found is None:
            self.problems.append(f"{path} has no title")
            return path
        return found[1].replace("`", "")

    def modules(self) -> Iterator[str]:
        """The modules that the reference is about: all but those that only run something."""
        for package in PACKAGES:
            for file in sorted((REPOSITORY / package).rglob("*.py")):
                text = file.read_text("utf-8")
                if file.name != "__main__.py" and text.strip():
                    yield file.relative_to(REPOSITORY).as_posix()

    def _index(self, modules: list[str]) -> str:
        lines = ["# All modules", "", "Each with the first sentence of its docstring.", "", "| module | |", "|---|---|"]
        for path in modules:
            text = (REPOSITORY / path).read_text("utf-8")
            sentence = re.match(r'"""(.+?)(?:"""|\n\n|:\n|\n *\n)', text, re.DOTALL)
            told = " ".join(sentence[1].split()) if sentence else ""
            lines.append(
                f"| [`{_module(path)}`]({_api(path).removeprefix('api/')}) | {told.replace('|', chr(92) + '|')} |"
            )
        return "\n".join([*lines, ""])

    # ---- links ----

    def rewritten(self, path: str, text: str) -> str:
        """The page with links that lead somewhere in the book; fenced blocks stay as they are."""
        done, at = [], 0
        for fence in FENCE.finditer(text):
            done += [self._linked(path, text[at : fence.start()]), fence[0]]
            at = fence.end()
        return "".join([*done, self._linked(path, text[at:])])

    def _linked(self, path: str, text: str) -> str:
        text = LINK.sub(lambda found: self._link(path, found[1]) + (found[2] or ""), text)
        return TICKED.sub(lambda found: self._ticked(path, found[1]), text)

    def _link(self, page: str, link: str) -> str:
        wanted = os.path.normpath(PurePosixPath(page).parent / link)
        there = self._place(wanted)
        if there is None:
            self.problems.append(f"{page} links to {link}, which is no file of the repository")
            return link
        return _up(_name(page)) + there

    def _ticked(self, page: str, name: str) -> str:
        for wanted in (name, os.path.normpath(PurePosixPath(page).parent / name)):
            there = self._place(wanted)
            if there is not None and there != _name(page):
                return f"[`{name}`]({_up(_name(page))}{there})"
        return f"`{name}`"

    def _place(self, path: str) -> str | None:
        """Where the book has a file or folder of the repository."""
        for page in (path, f"{path}/README.md"):
            if page in self.markdown:
                return _name(page)
        init = f"{path}/__init__.py"
        if (REPOSITORY / init).is_file():
            path = init
        file = REPOSITORY / path
        if path.startswith((".", "/")) or not file.is_file() or file.stat().st_size > SHOWN_BYTES or not _is_text(file):
            return None
        self.named.add(path)
        return _source(path)

    def _write(self, name: str, text: str) -> None:
        file = self.pages / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


def _name(path: str) -> str:
    """A page's place in the book."""
    return "index.md" if path == "README.md" else path


def _up(name: str) -> str:
    """From a page to the top of the book."""
    return "../" * name.count("/")


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _api(path: str) -> str:
    return f"api/{_module(path)}.md"


def _source(path: str) -> str:
    return f"source/{path}.md"


def _is_text(file: Path) -> bool:
    return b"\0" not in file.read_bytes()[:1_000]


def _shown(path: str) -> str:
    """A source file as a page, with numbered lines."""
    text = (REPOSITORY / path).read_text("utf-8", errors="replace")
    ticks = "`" * max(4, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    language = LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f'---\nhide: [toc]\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{ticks}{language} linenums="1"\n{text.rstrip()}\n{ticks}\n'


def _toml(value: object) -> str:
    """Lists and tables of strings as TOML writes them in one line."""
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(one)}' for key, one in value.items())} }}"
    return json.dumps(value)


def foreign_resources(site: Path) -> Iterator[str]:
    """What a reader's browser would fetch from another host."""
    for page in sorted(site.rglob("*.html")):
        for found in ABSOLUTE.finditer(page.read_text("utf-8")):
            if 'rel="canonical"' not in found[0] and "rel=canonical" not in found[0]:
                yield f"{page.relative_to(site)} fetches {found[0]}"


def main() -> int:
    """Builds the book; 1 if a link leads nowhere, or a page needs the network."""
    book = Book()
    problems = book.put_together()
    if not problems:
        command = [
            sys.executable,
            "-m",
            "zensical",
            "build",
            "--strict",
            "--clean",
            "-f",
            str(book.target / "zensical.toml"),
        ]
        if subprocess.run(command, cwd=book.target, check=False).returncode:
            problems = ["the build has failed, see above"]
        else:
            problems = list(foreign_resources(book.target / "site"))
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"The book: {book.target / 'site/index.html'}")
        print("With search: .venv/bin/python -m http.server --bind 127.0.0.1 --directory book/site")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

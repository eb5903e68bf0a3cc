"""The chapters' pages held to the repository: what they show is what is there, and what they name exists.

    ```python title="engines/kvstore.py::KVStore.put"     the source of that function, class or constant, or lines of it
    ```python                                             a doctest, run on the reference
    ```console                                            commands, run in a course directory (see walk.py)
    ```console optional                                   commands that need what may be missing: not run
    ```text                                               a picture

The fences are found by sybil, and the doctests run by it.
"""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sybil import Document, Region
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from tutorial.learn import cut
from tutorial.learn.course import REPOSITORY, Chapter, Course

__all__ = ["OPTIONS", "SECTIONS", "SOLVED", "WORDS", "Block", "blocks", "problems", "run_doctests"]

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SOLVED = "<!-- solved -->"  # from here on the page's commands run on the finished chapter
WORDS = (900, 2_200)
SECTIONS = (
    "What you type",
    "The idea",
    "Invariants",
    "Predict",
    "Write it",
    "Run it",
    "Check",
    "What green does not prove",
    "Break it",
    "Questions",
    "Go further",
)

FENCES = RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"))
TITLE = re.compile(r'title="(?P<path>[^":]+)::(?P<name>[^"]+)"')
KINDS = re.compile(r'python|python title="[^"]+"|console|console optional|console input="[^"]*"|text')
TICKED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
A_FILE = re.compile(r"(?:engines|raft|server|bench|tests|tutorial|examples|findings)/[\w./-]*\w\.\w+")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its info string, what it holds, its line, and whether it stands after the mark `solved`."""

    info: str
    text: str
    line: int
    solved: bool


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks in order."""
    document = Document(page.read_text("utf-8"), str(page))
    mark = document.text.find(SOLVED)
    return [
        Block(
            region.lexemes["info"].strip(),
            str(region.lexemes["source"]),
            document.text.count("\n", 0, region.start) + 1,
            0 <= mark < region.start,
        )
        for region in FENCES(document)
    ]


def problems(course: Course, chapter: Chapter) -> Iterator[str]:
    """What is wrong with a chapter's page, in sentences that begin with the line where there is one."""
    text = chapter.page.read_text("utf-8")
    prose = "".join(part for part in re.split(r"^```.*?^```\s*?$", text, flags=re.MULTILINE | re.DOTALL))
    yield from _shape(chapter, text, prose)
    yield from _names(chapter, prose)
    for block in blocks(chapter.page):
        if not KINDS.fullmatch(block.info):
            yield f"line {block.line}: a block of the kind {block.info!r}: see pages.py for those that are checked"
        elif (found := TITLE.search(block.info)) is not None:
            yield from _listing(course, chapter, block, found["path"], found["name"])
        elif block.info == "python" and ">>> " not in block.text:
            yield f"line {block.line}: a python block is a doctest, or has a title that says whose source it is"


def _shape(chapter: Chapter, text: str, prose: str) -> Iterator[str]:
    if not text.startswith(f"# {chapter.number}. {chapter.title}\n"):
        yield f"the page begins with its title: # {chapter.number}. {chapter.title}"
    found = [title for title in re.findall(r"^## (.+)$", prose, re.MULTILINE) if title in SECTIONS]
    if found != list(SECTIONS):
        yield f"the sections are {found}, and should be {list(SECTIONS)}"
    count = len(re.sub(r"</?[a-z][^>\n]*>|<!--.*?-->", " ", prose).split())
    if not WORDS[0] <= count <= WORDS[1]:
        yield f"{count} words: {WORDS[0]} to {WORDS[1]} are what a sitting holds"
    written = {name.strip("` ") for name in re.findall(r"^### (.+)$", prose, re.MULTILINE)}
    for owned in chapter.owns:
        if owned.name not in written:
            yield f"no heading '### {owned.name}' says what is to be written"
    for mutant in chapter.mutants:
        if mutant.name not in prose:
            yield f"the mutant {mutant.name} is not told of"
    answers = re.findall(r"<details>(.*?)</details>", prose, re.DOTALL)
    if len(answers) < 3:
        yield f"{len(answers)} questions with an answer"
    for answer in answers:
        if "test_" not in answer:
            yield f"an answer names no test that shows it: {' '.join(answer.split())[:60]}…"


def _names(chapter: Chapter, prose: str) -> Iterator[str]:
    own = set().union(*(_tests_of(REPOSITORY / test) for test in chapter.tests))
    for word in TICKED.findall(prose):
        name = word.rpartition("::")[2].partition("[")[0].strip()
        if re.fullmatch(r"test_\w+", name) and name not in own and name not in _all_tests():
            yield f"there is no test {name}"
        for path in A_FILE.findall(word):
            if not (REPOSITORY / path).exists():
                yield f"there is no file {path}"
    for link in LINK.findall(prose):
        if not (chapter.page.parent / link).exists():
            yield f"a link to {link}, which is not there"
    for prediction in chapter.predictions:
        if prediction.test not in own:
            yield f"the prediction {prediction.question!r} names {prediction.test}, which is no test of the chapter"
    for mutant in chapter.mutants:
        if mutant.killed_by not in own:
            yield f"the mutant {mutant.name} names {mutant.killed_by}, which is no test of the chapter"


def _listing(course: Course, chapter: Chapter, block: Block, path: str, name: str) -> Iterator[str]:
    source = _source_of(path, name)
    if source is None:
        yield f"line {block.line}: there is no {name} in {path}"
    elif not _is_part(block.text.strip("\n"), textwrap.dedent(source)):
        yield f"line {block.line}: the listing is not what {path}::{name} is"
    elif f"{path}::{name}" in course.owned:
        yield f"line {block.line}: a listing of {name}, which a chapter asks for"


def _is_part(listing: str, source: str) -> bool:
    """True if the lines stand in the source, as they are or further to the right: a fence's text comes without indent."""
    return any(textwrap.indent(listing, " " * depth) in source for depth in range(0, 20, 4))


@cache
def _source_of(path: str, name: str) -> str | None:
    """The lines of a function, class or top-level assignment; "*" is the whole file."""
    if not (REPOSITORY / path).is_file():
        return None
    text = (REPOSITORY / path).read_text("utf-8")
    if name == "*":
        return text
    if name in cut.functions(text):
        return cut.source_of(text, name)
    for node in ast.walk(ast.parse(text)):
        names = {node.name} if isinstance(node, ast.ClassDef) else set()
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
        if name.rpartition(".")[2] in names and isinstance(node, ast.ClassDef | ast.Assign | ast.AnnAssign):
            decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
            first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            return "".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])
    return None


@cache
def _tests_of(path: Path) -> frozenset[str]:
    found = cut.functions(path.read_text("utf-8"))
    return frozenset(name.rpartition(".")[2] for name in found if name.rpartition(".")[2].startswith("test_"))


@cache
def _all_tests() -> frozenset[str]:
    """The tests of the whole project; a page may name any, and the files are worth naming, too."""
    files = list((REPOSITORY / "tests").rglob("test_*.py"))
    return frozenset().union({path.stem for path in files}, *(_tests_of(path) for path in files))


def run_doctests(page: Path) -> None:
    """Runs the page's doctests in one namespace, in the current directory. Raises SybilFailure for a difference."""
    document = Document(page.read_text("utf-8"), str(page))
    parser = DocTestStringParser(DocTestEvaluator(OPTIONS))
    for fence in FENCES(document):
        if fence.lexemes["info"].strip() != "python":
            continue
        source = fence.lexemes["source"]
        region: Region
        for region in parser(str(source), document.path):
            region.adjust(fence, source)
            document.add(region)
    for example in document.examples():
        example.evaluate()

"""The rules of the house, each a function from a source to sentences about what is wrong in it.

`test_tidy.py` runs them over the repository, and on a snippet each that they have to object to. They read the syntax
tree, so that a word in a comment or a string is no offence, and a call through another name is none they would miss.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["PACKAGES", "REPOSITORY", "RULES", "Source", "circles", "sources"]

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("engines", "raft", "server", "bench")
MAY_IMPORT = {
    "engines": {"engines"},
    "raft": {"raft"},
    "server": {"engines", "raft", "server", "bench"},
    "bench": {"bench", "engines"},
}

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

# Everything durable reaches disk, clock and chance through an Env. These few are the doors themselves.
DOORS = {"engines/env.py", "engines/locks.py", "engines/simenv.py", "engines/faultenv.py", "engines/process.py"}
# Programs around the Raft library, which read and print files that people name; the library imports none of them.
PROGRAMS = {"raft/interaction/__main__.py", "raft/simulator.py"}
DURABLE_IN_SERVER = {"server/wal.py", "server/snapshot.py", "server/statemachine.py"}
OUTSIDE_MODULES = {
    "os", "posix", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "mmap", "time", "datetime", "random",
    "secrets", "uuid", "socket", "select", "selectors", "subprocess", "signal", "asyncio",
}  # fmt: skip
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
CONCURRENCY_MODULES = {"threading", "_thread", "concurrent", "multiprocessing", "queue"}


@dataclass(frozen=True)
class Source:
    """A Python file: its path within the repository, with "/" between the parts, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree; most rules look at all of them."""
        return list(ast.walk(self.tree))

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]


def sources(*folders: str) -> Iterator[Source]:
    """Every Python file below the folders of the repository. The tree of one is gone when the next is looked at: all of
    them together would be half a gigabyte."""
    for file in sorted(file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")):
        yield Source(file.relative_to(REPOSITORY).as_posix(), file.read_text("utf-8"))


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each module that is imported anywhere in it; relative ones begin with a dot."""
    for node in source.nodes:
        yield from imported_by(node)


def imported_by(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The same for one statement or call."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
        yield node.lineno, "." * node.level + (node.module or "")
    elif isinstance(node, ast.Call) and _called(node) in ("__import__", "import_module"):
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant):
                yield node.lineno, str(argument.value)


def _called(node: ast.Call) -> str:
    """The last word of what is called: `open`, `sleep`."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def imports_follow_the_arrows(source: Source) -> Iterator[str]:
    """server → raft, engines; these import nothing of ours."""
    for line, module in imported(source):
        top = module.partition(".")[0]
        if top in (*PACKAGES, "tests", "tutorial") and top not in MAY_IMPORT[source.package]:
            yield f"{source.path}:{line} imports {module}: {source.package} must not know {top}"


def imports_are_absolute(source: Source) -> Iterator[str]:
    """One name for each module, wherever it is said."""
    for line, module in imported(source):
        if module.startswith("."):
            yield f"{source.path}:{line} imports {module}: say the whole name"


def the_world_comes_through_env(source: Source) -> Iterator[str]:
    """In engines/, raft/ and the durable parts of server/: no module that reaches disk, clock or chance, and no `open`
    but one that the module itself defines (the registry's). In raft/, which is pure, no threads either.

    `random` may be imported for the name of the type, `random.Random`, of which an object is handed in.
    """
    durable = source.package in ("engines", "raft") or source.path in DURABLE_IN_SERVER
    if not durable or source.path in DOORS | PROGRAMS:
        return
    banned = OUTSIDE_MODULES | (CONCURRENCY_MODULES if source.package == "raft" else set())
    for line, module in imported(source):
        if module == "random" and _only_names_the_type(source.tree):
            continue
        if module.partition(".")[0] in banned and not _only_for_types(source.tree, line):
            yield f"{source.path}:{line} imports {module}: the world comes through engines.env"
    # only what is defined at the top of the module hides the builtin; a method of that name doesn't
    own = {node.name for node in source.tree.body if isinstance(node, ast.FunctionDef)}
    for node in source.nodes:
        if isinstance(node, ast.Name) and node.id in {"open", "input", "exec", "eval"} - own:
            yield f"{source.path}:{node.lineno} uses {node.id}: the world comes through engines.env"


def _only_names_the_type(tree: ast.Module) -> bool:
    """True if nothing of `random` is used but the name `random.Random`, and that isn't called."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    whole = {node.value: node for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "random"]
    named = [whole[use] for use in uses if use in whole and whole[use].attr == "Random"]
    hidden = any(
        (isinstance(node, ast.ImportFrom) and node.module == "random")
        or (isinstance(node, ast.alias) and node.name == "random" and node.asname is not None)
        for node in ast.walk(tree)
    )
    return bool(named) and len(named) == len(uses) and not hidden and not called & set(named)


def _only_for_types(tree: ast.Module, line: int) -> bool:
    """True for an import under `if TYPE_CHECKING:`, which does nothing when the program runs."""
    guarded = (
        part
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
    )
    return any(part.lineno <= line <= (part.end_lineno or part.lineno) for part in guarded)


def files_are_short(source: Source) -> Iterator[str]:
    """One noun of the field for each file."""
    lines = source.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{source.path} has {lines} lines: {FILE_LINES_MAX} are the limit, so it holds two things"


def functions_fit_a_screen(source: Source) -> Iterator[str]:
    """One purpose for each function; its docstring is counted, its decorators are not."""
    for node in source.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{source.path}:{node.lineno} {node.name} has {lines} lines: {FUNCTION_LINES_MAX} are the limit"


def modules_have_a_docstring(source: Source) -> Iterator[str]:
    """The small chapter on top of each file; an `__init__.py` without code may be empty."""
    if source.tree.body and not ast.get_docstring(source.tree):
        yield f"{source.path} has no docstring: say what it is"


def public_things_have_a_docstring(source: Source) -> Iterator[str]:
    """Every public class and function of a module. Methods aren't looked at: many are specified where they are first
    declared, in a protocol or an abstract class, and the tree of one file doesn't show which."""
    for node in source.tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            overloaded = any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)
            if not ast.get_docstring(node) and not overloaded:
                yield f"{source.path}:{node.lineno} {node.name} has no docstring"


def nothing_is_left_to_do(source: Source) -> Iterator[str]:
    """A comment that promises work is work that isn't done."""
    if not UNDONE.search(source.text):
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and (found := UNDONE.search(token.string)):
            yield f"{source.path}:{token.start[0]} says {found[0]}: do it, or say in the docstring why it is left out"


def a_test_neither_sleeps_nor_skips(source: Source) -> Iterator[str]:
    """A test waits for what it is about, and passes or fails. `importorskip` and `skip` are for tests/interop and
    tests/page, which need real systems and a browser, and whose `make` targets fail when something is missing."""
    banned = {"sleep", "skipif", "xfail", "skipTest"}
    if not source.path.startswith(("tests/interop/", "tests/page/")):
        banned |= {"importorskip", "skip"}
    for node in source.nodes:
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name) if name in banned:
                yield f"{source.path}:{node.lineno} says {name}"


# ---- private names ----------------------------------------------------------------------------------------------------

OWN = {"self", "cls"}
PUBLIC_DESPITE_ITS_NAME = {"_replace", "_asdict", "_fields", "_make", "_field_defaults"}  # a NamedTuple's
NO_PUBLIC_NAME = {"_children"}  # multiprocessing's: how a forked child leaves a process to its parent


def private_names_stay_in_their_module(source: Source) -> Iterator[str]:
    """`x._name` is for the module that defines `_name`; so is `from x import _name`, and `getattr(x, "_name")`.

    What `self` and `super()` have may come from a base class in another module: that is inheritance, and passes.
    """
    own = _defined(source.nodes) | PUBLIC_DESPITE_ITS_NAME | NO_PUBLIC_NAME
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if _is_private(alias.name)]
        elif isinstance(node, ast.Attribute) and not _is_own(node.value):
            names = [node.attr]
        elif isinstance(node, ast.Call) and _called(node) in ("getattr", "setattr", "hasattr", "delattr"):
            names = [str(word.value) for word in node.args[1:2] if isinstance(word, ast.Constant)]
        else:
            continue
        for name in names:
            if _is_private(name) and name not in own:
                yield f"{source.path}:{node.lineno} uses {name}, which is private to another module"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def _is_own(value: ast.expr) -> bool:
    """True for `self`, `cls`, `super()`, `type(self)`."""
    if isinstance(value, ast.Call):
        return _called(value) == "super" or (
            _called(value) == "type" and len(value.args) == 1 and _is_own(value.args[0])
        )
    return isinstance(value, ast.Name) and value.id in OWN


def _defined(nodes: list[ast.AST]) -> set[str]:
    """The names that the module gives to anything: functions, classes, variables, attributes of `self`, slots."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                found.update(str(slot.value) for slot in slots if isinstance(slot, ast.Constant))
    return found


# ---- circles ----------------------------------------------------------------------------------------------------------


def circles(files: Iterable[Source]) -> list[list[str]]:
    """Circles of imports among the files, as paths: one for each file that is in any, a shortest one that begins with it.

    Every import counts: those in functions, and those for types only. `from a import b` is an import of a/b.py, if that
    is a file, and of a/__init__.py otherwise. That `import a.b` runs a/__init__.py first doesn't count.
    """
    imports = {file.path: list(_named_modules(file)) for file in files}
    modules = {_module_name(path): path for path in imports}
    graph = {
        path: {modules[name] for names in each for name in [name for name in names if name in modules][:1]}
        for path, each in imports.items()
    }
    found = (_shortest_way_back(start, graph) for start in sorted(graph))
    return [circle for circle in found if circle]


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _named_modules(source: Source) -> Iterator[tuple[str, ...]]:
    """The modules that the file imports; for `from a import b` both that it may be, a.b before a."""
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((f"{node.module}.{alias.name}", node.module) for alias in node.names)
        elif isinstance(node, (ast.Import, ast.Call)):
            yield from ((name,) for _, name in imported_by(node))


def _shortest_way_back(start: str, graph: Mapping[str, set[str]]) -> list[str]:
    """A path of files from `start` to itself, each importing the next; [] if there is none."""
    ways = {start: [start]}
    queue = [start]
    for file in queue:
        for following in sorted(graph[file]):
            if following == start:
                return ways[file]
            if following not in ways:
                ways[following] = [*ways[file], following]
                queue.append(following)
    return []


Rule = Callable[[Source], Iterator[str]]

# rule → the folders it holds in
RULES: dict[Rule, tuple[str, ...]] = {
    imports_follow_the_arrows: PACKAGES,
    imports_are_absolute: (*PACKAGES, "tests"),
    the_world_comes_through_env: PACKAGES,
    files_are_short: PACKAGES,
    functions_fit_a_screen: PACKAGES,
    modules_have_a_docstring: (*PACKAGES, "tests"),
    public_things_have_a_docstring: PACKAGES,
    nothing_is_left_to_do: (*PACKAGES, "tests"),
    a_test_neither_sleeps_nor_skips: ("tests",),
    private_names_stay_in_their_module: PACKAGES,
}

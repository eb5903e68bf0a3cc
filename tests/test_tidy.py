"""The house is kept: what CONTRIBUTING and ARCHITECTURE say about files and imports is looked up in the sources.

Each rule of tests/tidy.py is run over the repository, and has to object to a snippet that breaks it.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.tidy import (
    PACKAGES,
    REPOSITORY,
    RULES,
    Rule,
    Source,
    a_test_neither_sleeps_nor_skips,
    circles,
    files_are_short,
    functions_fit_a_screen,
    imports_are_absolute,
    imports_follow_the_arrows,
    modules_have_a_docstring,
    nothing_is_left_to_do,
    private_names_stay_in_their_module,
    public_things_have_a_docstring,
    sources,
    the_world_comes_through_env,
)


def test_the_repository_keeps_the_rules() -> None:
    """Each in every file of the folders in which it holds. One test, as every file is read and parsed once."""
    checked: Counter[Rule] = Counter()
    offences = []
    for source in sources(*PACKAGES, "tests"):
        for rule in (rule for rule, folders in RULES.items() if source.package in folders):
            checked[rule] += 1
            offences += [f"{offence} ({rule.__name__})" for offence in rule(source)]
    assert all(checked[rule] > 10 for rule in RULES), "the files are looked for in the wrong place"
    assert not offences, "\n".join(["", *offences])


def test_no_imports_go_in_circles() -> None:
    """A reader who begins at the bottom never meets what was not explained; imports for types only count, too."""
    offences = [" imports ".join([*circle, circle[0]]) for circle in circles(sources(*PACKAGES))]
    assert not offences, "\n".join(["", *offences])


OFFENCES = [
    (imports_follow_the_arrows, "engines/lsm/store.py", "import raft", 1),
    (imports_follow_the_arrows, "engines/lsm/store.py", "def f():\n    from server.node import Node", 1),
    (imports_follow_the_arrows, "raft/raft.py", "from engines.env import Env", 1),
    (imports_follow_the_arrows, "server/node.py", "import engines, raft\nfrom tests.tidy import RULES", 1),
    (imports_follow_the_arrows, "raft/log.py", "import importlib\nimportlib.import_module('engines.log')", 1),
    (imports_follow_the_arrows, "server/node.py", "import engines.log\nfrom raft import Raft", 0),
    (imports_follow_the_arrows, "engines/log.py", "import engineset", 0),
    (imports_are_absolute, "engines/log.py", "from . import coding", 1),
    (imports_are_absolute, "engines/lsm/block.py", "from ..coding import u32", 1),
    (imports_are_absolute, "engines/log.py", "from engines import coding", 0),
    (the_world_comes_through_env, "engines/lsm/store.py", "import os", 1),
    (the_world_comes_through_env, "engines/lsm/store.py", "from os.path import join", 1),
    (the_world_comes_through_env, "engines/lsm/store.py", "import time as clock", 1),
    (the_world_comes_through_env, "raft/raft.py", "def f():\n    import random", 1),
    (the_world_comes_through_env, "raft/raft.py", "import threading", 1),
    (the_world_comes_through_env, "engines/log.py", "import threading", 0),
    (the_world_comes_through_env, "engines/log.py", "data = open('x').read()", 1),
    (the_world_comes_through_env, "engines/log.py", "f = open\nf('x')", 1),
    (the_world_comes_through_env, "engines/log.py", "class A:\n    def open(self):\n        return open('x')", 1),
    (the_world_comes_through_env, "engines/log.py", "env.open('x', 'r')", 0),
    (the_world_comes_through_env, "engines/__init__.py", "def open(path): ...\nopen('x')", 0),
    (the_world_comes_through_env, "engines/log.py", "# import os\n'''import os'''", 0),
    (the_world_comes_through_env, "engines/log.py", "if TYPE_CHECKING:\n    import random", 0),
    (the_world_comes_through_env, "engines/log.py", "if TYPE_CHECKING:\n    import random\nimport os", 1),
    (the_world_comes_through_env, "raft/config.py", "import random\ndef f(rng: random.Random): ...", 0),
    (the_world_comes_through_env, "raft/config.py", "import random\nrng = random.Random()", 1),
    (the_world_comes_through_env, "raft/config.py", "import random\nx: random.Random\nrandom.random()", 1),
    (the_world_comes_through_env, "raft/config.py", "import random as r\nr.random()", 1),
    (the_world_comes_through_env, "raft/config.py", "from random import Random", 1),
    (the_world_comes_through_env, "engines/env.py", "import os, time, random", 0),
    (the_world_comes_through_env, "server/wal.py", "import os", 1),
    (the_world_comes_through_env, "server/cli.py", "import os", 0),
    (files_are_short, "engines/log.py", "a = 1\n" * 501, 1),
    (files_are_short, "engines/log.py", "a = 1\n" * 500, 0),
    (functions_fit_a_screen, "engines/log.py", "def f():\n" + "    a = 1\n" * 60, 1),
    (functions_fit_a_screen, "engines/log.py", "class A:\n    async def f():\n" + "        a = 1\n" * 60, 1),
    (functions_fit_a_screen, "engines/log.py", "def f():\n" + "    a = 1\n" * 59, 0),
    (modules_have_a_docstring, "engines/log.py", "a = 1", 1),
    (modules_have_a_docstring, "engines/log.py", "'''What it is.'''\na = 1", 0),
    (modules_have_a_docstring, "engines/__init__.py", "", 0),
    (public_things_have_a_docstring, "engines/log.py", "def f(): ...", 1),
    (public_things_have_a_docstring, "engines/log.py", "class A:\n    def f(self): ...", 1),
    (public_things_have_a_docstring, "engines/log.py", "class A:\n    '''A.'''\n    def f(self): ...", 0),
    (public_things_have_a_docstring, "engines/log.py", "def _f(): ...\nclass _A:\n    def f(self): ...", 0),
    (nothing_is_left_to_do, "engines/log.py", "a = 1  # TO" + "DO: more", 1),
    (nothing_is_left_to_do, "engines/log.py", "a = 'TO" + "DO'", 0),
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "import time\ntime.sleep(1)", 1),
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "@pytest.mark.skipif(True)\ndef test(): ...", 1),
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "@pytest.mark.xfail\ndef test(): ...", 1),
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "pytest.importorskip('plyvel')", 1),
    (a_test_neither_sleeps_nor_skips, "tests/interop/test_a.py", "pytest.importorskip('plyvel')", 0),
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "pytest.skip('no Erlang here')", 1),
    (a_test_neither_sleeps_nor_skips, "tests/interop/test_a.py", "pytest.skip('no Erlang here')", 0),
    (a_test_neither_sleeps_nor_skips, "tests/page/conftest.py", "pytest.skip('no chromium here')", 0),
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "from time import sleep as rest\nrest(1)", 1),
    (private_names_stay_in_their_module, "engines/log.py", "from engines.env import _adopt", 1),
    (private_names_stay_in_their_module, "engines/log.py", "from engines import _known as known", 1),
    (private_names_stay_in_their_module, "engines/log.py", "def f(store): return store._log", 1),
    (private_names_stay_in_their_module, "engines/log.py", "class A:\n    def f(self): self.core._log.flush()", 1),
    (private_names_stay_in_their_module, "engines/log.py", "def f(store): store._log = 1", 1),
    (private_names_stay_in_their_module, "engines/log.py", "def f(store): return getattr(store, '_log')", 1),
    (private_names_stay_in_their_module, "engines/log.py", "import engines.env\nengines.env._adopt(1)", 1),
    (private_names_stay_in_their_module, "engines/log.py", "class A:\n    def f(self): self._log = super()._log", 0),
    (private_names_stay_in_their_module, "engines/log.py", "class A:\n    def _f(self): ...\nA()._f()", 0),
    (private_names_stay_in_their_module, "engines/log.py", "class A:\n    __slots__ = ('_a',)\ndef f(a): a._a = 1", 0),
    (private_names_stay_in_their_module, "engines/log.py", "def f(state): return state._replace(a=1)", 0),
    (private_names_stay_in_their_module, "engines/log.py", "def f(a): return a.__class__\n_, b = 1, 2", 0),
    (private_names_stay_in_their_module, "raft/raft.py", "from __future__ import annotations", 0),
]

# the files of a package, and how many of them are in a circle
TANGLES = [
    ({"a": "import engines.b", "b": "import engines.a"}, 2),
    ({"a": "from engines.b import x", "b": "from engines import a"}, 2),
    ({"a": "if TYPE_CHECKING:\n    from engines.b import x", "b": "import engines.a"}, 2),
    ({"a": "def f():\n    import engines.b", "b": "import engines.a as a"}, 2),
    ({"a": "import_module('engines.b')", "b": "from engines.a import f"}, 2),
    ({"a": "import engines.b", "b": "import engines.c", "c": "import engines.a", "d": "import engines.a"}, 3),
    ({"__init__": "from engines.a import x", "a": "from engines import y"}, 2),
    ({"__init__": "from engines.a import x", "a": "from engines import b", "b": "import engines.c", "c": ""}, 0),
    ({"__init__": "from engines.a import x", "a": "import engines.b", "b": "import os"}, 0),
    ({"a": "import engines.b, engines.c", "b": "import engines.c", "c": "'import engines.a'"}, 0),
]


@pytest.mark.parametrize(("files", "expected"), TANGLES)
def test_a_circle_is_seen(files: dict[str, str], expected: int) -> None:
    """With every kind of import in it; and what only looks like one isn't."""
    package = [Source(f"engines/{name}.py", text) for name, text in files.items()]
    assert len(circles(package)) == expected


@pytest.mark.parametrize(("rule", "path", "text", "expected"), OFFENCES)
def test_a_rule_sees_what_breaks_it(rule: Rule, path: str, text: str, expected: int) -> None:
    """So that a rule which looks at nothing would be noticed; and so would one that objects to everything."""
    assert len(list(rule(Source(path, text)))) == expected


def test_every_rule_is_tried() -> None:
    """Both ways: on something it objects to, and on something it lets pass."""
    assert {rule for rule, *_, expected in OFFENCES if expected} == set(RULES)
    assert {rule for rule, *_, expected in OFFENCES if not expected} == set(RULES)


def unnamed(files: list[str], architecture: str) -> list[str]:
    """The files that the page doesn't name, by path or by their name within a package that it names."""
    return [file for file in files if file not in architecture]


def test_every_file_is_named_in_the_architecture() -> None:
    """ARCHITECTURE.md: which file has which purpose. An `__init__.py` without code needs no line."""
    architecture = (REPOSITORY / "ARCHITECTURE.md").read_text("utf-8")
    found = sources(*PACKAGES)
    files = [source.path for source in found if not source.path.endswith("__init__.py") or source.tree.body]
    assert unnamed(["engines/a.py", "engines/b.py"], "first `engines/a.py`") == ["engines/b.py"]
    assert not unnamed(files, architecture), "give each a line in ARCHITECTURE.md"


def untidy_page_file(name: str, text: str, architecture: str) -> list[str]:
    """What is wrong with a file of the page."""
    wrong = (
        []
        if f"`{name}`" in architecture or f"server/page/{name}" in architecture
        else ["has no line in ARCHITECTURE.md"]
    )
    if name.endswith(".js"):
        wrong += [f"has more than {SCRIPT_LINES_MAX} lines"] * (text.count("\n") > SCRIPT_LINES_MAX)
        wrong += ["doesn't begin with a comment that says what it is"] * (not text.startswith("/* "))
    wrong += [f"has {word}" for word in ("innerHTML", "eval(", "style=", "https://", "TO" + "DO") if word in text]
    return [f"{name} {each}" for each in wrong]


def test_the_page_s_files_keep_the_house() -> None:
    """They are source, too: short, named, each with a header; and nothing that its Content-Security-Policy forbids."""
    architecture = (REPOSITORY / "ARCHITECTURE.md").read_text("utf-8")
    files = {file.name: file.read_text("utf-8") for file in (REPOSITORY / "server/page").iterdir() if file.is_file()}
    assert "main.js" in files
    assert [each for name, text in files.items() for each in untidy_page_file(name, text, architecture)] == []
    assert untidy_page_file("a.js", "/* A. */\n", "the view `a.js`") == []
    assert len(untidy_page_file("a.js", "x.innerHTML = y\n" * 301, "")) == 4


SCRIPT_LINES_MAX = 300
NAMED = re.compile(r"\b(?:engines|raft|server|bench|tutorial|tests|examples)/[\w/]+\.(?:py|md)\b")


def test_files_that_are_named_exist() -> None:
    """In docstrings, comments and pages: a reader who is sent somewhere arrives. CHANGELOG.md tells of what was."""
    pages = [
        page for page in REPOSITORY.glob("**/*.md") if not {".venv", "book", "findings", "my-metcd"} & set(page.parts)
    ]
    texts = {
        str(page.relative_to(REPOSITORY)): page.read_text("utf-8") for page in pages if page.name != "CHANGELOG.md"
    }
    texts |= {
        source.path: source.text for source in sources(*PACKAGES, "tests", "examples") if "tidy" not in source.path
    }
    lost = [
        f"{path} names {name}"
        for path, text in texts.items()
        for name in NAMED.findall(text)
        if not (REPOSITORY / name).exists()
    ]
    assert NAMED.findall("see `tests/no/such.py`: there") == ["tests/no/such.py"]
    assert lost == []


def test_every_test_file_has_a_name_of_its_own() -> None:
    """So that `pytest test_log.py` in a message means one file."""
    names = Counter(file.name for file in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


def test_tests_are_no_package() -> None:
    """An `__init__.py` would make `tests` a package, which an installed one of that name could hide."""
    assert list((REPOSITORY / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_under_test_are_those_of_the_repository(package: str) -> None:
    """Their names are plain, so that another distribution's `raft` or `server` might be found first."""
    file = importlib.import_module(package).__file__
    assert file is not None
    assert Path(file) == REPOSITORY / package / "__init__.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed(package: str) -> None:
    """PEP 561: without `py.typed`, checkers take its annotations for nothing."""
    assert (REPOSITORY / package / "py.typed").exists()


def test_importing_an_engine_costs_no_server() -> None:
    """The arrows, seen from a running program: `import engines` and `import raft` load nothing of the others."""
    script = "import sys, engines, engines.memory; print('raft' in sys.modules, 'server' in sys.modules)"
    script += "; import raft; print('server' in sys.modules, 'threading' in raft.__dict__)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["False"] * 4, ran.stderr

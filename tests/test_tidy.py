"""The house is kept: what STYLE and ARCHITECTURE say about files and imports is looked up in the sources.

Each rule of tests/tidy.py is run over the repository, and has to object to a snippet that breaks it.
"""

from __future__ import annotations

import importlib
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
    files_are_short,
    functions_fit_a_screen,
    imports_are_absolute,
    imports_follow_the_arrows,
    modules_have_a_docstring,
    nothing_is_left_to_do,
    public_things_have_a_docstring,
    sources,
    the_world_comes_through_env,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    """Every file of the folders in which it holds."""
    checked = sources(*RULES[rule])
    assert len(checked) > 10, "the files are looked for in the wrong place"
    offences = [offence for source in checked for offence in rule(source)]
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
    (a_test_neither_sleeps_nor_skips, "tests/test_a.py", "from time import sleep as rest\nrest(1)", 1),
]


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
    """ARCHITECTURE.md: which file has which thought. An `__init__.py` without code needs no line."""
    architecture = (REPOSITORY / "ARCHITECTURE.md").read_text("utf-8")
    files = [source.path for source in sources(*PACKAGES) if source.tree.body]
    assert unnamed(["engines/a.py", "engines/b.py"], "first `engines/a.py`") == ["engines/b.py"]
    assert not unnamed(files, architecture), "give each a line in ARCHITECTURE.md"


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

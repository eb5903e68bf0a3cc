"""engines/WRITE_AN_ENGINE.md: what it names exists. That its example keeps the contract is shown by the suites it names."""

from __future__ import annotations

import re

from engines import KVStore, files, kvstore, lifetime, pairs
from engines.env import Env
from tests.tidy import REPOSITORY

PAGE = (REPOSITORY / "engines" / "WRITE_AN_ENGINE.md").read_text("utf-8")


def test_what_the_page_offers_is_there() -> None:
    """The table of helpers: functions of the contract, of `files`, `pairs` and `lifetime`, and what `self` has."""
    rows = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(self\.)?(\w+)(?:\([^`]*\))?`", row)]
    assert len(names) > 12
    modules = (kvstore, files, pairs, lifetime)
    lost = [name for own, name in names if not any(hasattr(place, name) for place in ((KVStore,) if own else modules))]
    assert lost == []


def test_what_the_page_says_of_the_methods_is_true() -> None:
    """An engine writes what is abstract, and `recognises`; the rest comes with the base class."""
    (listed,) = re.findall(r"You write (.+?)\nand|You write (.+?), and", PAGE, re.DOTALL)[:1]
    written = set(re.findall(r"`(\w+)`", "".join(listed)))
    assert written == set(KVStore.__abstractmethods__)
    for call in re.findall(r"self\._env\.(\w+)\(", PAGE):
        assert hasattr(Env, call), call

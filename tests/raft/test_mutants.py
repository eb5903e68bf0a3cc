"""Each planted bug is found: by the simulator, or by a unit test or an interaction script."""

from __future__ import annotations

import os
import sys

import pytest

import raft.util
from tests.raft.mutants import MUTANTS, SEEDS, Mutant, catch, hunt, parse, planted

SEED = int(os.environ.get("METCD_SEED", "0"))
FIRST = SEED * 1_000_000


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.sample], ids=lambda mutant: mutant.name)
def test_a_few_seeds_find_a_planted_bug(mutant: Mutant) -> None:
    """Those that most seeds find; 300 seeds leave no doubt."""
    assert hunt(mutant, range(FIRST, FIRST + 300)), mutant.why


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_is_found(mutant: Mutant) -> None:
    """Within 2,000 seeds, or by the unit tests. `python -m tests.raft.mutants` prints what found which."""
    assert catch(mutant, range(FIRST, FIRST + SEEDS)), mutant.why


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_patch_fits_the_library(mutant: Mutant) -> None:
    """What it replaces is there exactly once, and the result is a program."""
    for path, text in mutant.sources().items():
        compile(text, path, "exec")


def test_there_are_enough_planted_bugs() -> None:
    assert len(MUTANTS) >= 30
    assert sum(mutant.sample for mutant in MUTANTS) >= 8


def test_a_patch_that_no_longer_fits_says_so() -> None:
    """Loudly: a mutant that changes nothing would never be found, or never be missed."""
    mutant = parse("gone", "Nothing.\n--- raft/util.py\n@@\n-    return a line that isn't there\n+    return True\n")
    with pytest.raises(LookupError, match=r"gone\.patch: raft/util\.py has 0 times what the patch expects"):
        hunt(mutant, range(1))


def test_a_bug_is_planted_in_a_private_copy() -> None:
    """The library that everybody else has imported stays as it is."""
    text = "Sent too early.\n--- raft/util.py\n@@\n-    return message.type in _EARLY\n+    return True\n"
    before = sys.modules["raft.util"]
    with planted(parse("early", text)) as simulator:
        assert sys.modules["raft.util"] is not before
        assert simulator.violation_of(simulator.plan_of(1))
    assert sys.modules["raft.util"] is before is raft.util

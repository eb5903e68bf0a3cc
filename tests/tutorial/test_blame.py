"""tutorial/learn/blame.py: the search for the functions that make a test red."""

import random
from collections.abc import Sequence

import pytest

from tutorial.learn.blame import minimal
from tutorial.learn.course import Owned

OWNED = [Owned("a.py", f"f{number}", 1) for number in range(40)]


@pytest.mark.parametrize("faults", [1, 2, 3, 5])
def test_the_functions_at_fault_are_named_and_no_others(faults: int, rng: random.Random) -> None:
    for _ in range(50):
        wrong = set(rng.sample(OWNED, faults))
        assert set(minimal(OWNED, lambda replaced, wrong=wrong: wrong <= set(replaced))) == wrong


def test_one_fault_among_forty_costs_a_dozen_runs() -> None:
    runs = 0

    def green(replaced: Sequence[Owned]) -> bool:
        nonlocal runs
        runs += 1
        return OWNED[23] in replaced

    assert minimal(OWNED, green) == [OWNED[23]]
    assert runs <= 12


def test_of_two_replacements_that_both_help_one_is_named() -> None:
    assert len(minimal(OWNED, lambda replaced: OWNED[3] in replaced or OWNED[30] in replaced)) == 1


def test_a_single_candidate_needs_no_run() -> None:
    assert minimal(OWNED[:1], lambda replaced: pytest.fail("it was run")) == OWNED[:1]

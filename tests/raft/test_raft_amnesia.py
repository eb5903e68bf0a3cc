"""Nodes that lose their logs and are kept out break nothing; nodes that lose their logs and vote lose acknowledged entries."""

from __future__ import annotations

import os

import pytest

from raft.simulation.invariants import Violation
from server.roster import Hello, Roster
from tests.raft.amnesia import PROFILES, forget

SEED = int(os.environ.get("METCD_SEED", "0"))


def _seeds(count: int) -> range:
    return range(SEED * 1_000_000, SEED * 1_000_000 + count)


def _losses(profile: str, count: int) -> dict[str, int]:
    total = {"emptied": 0, "older": 0}
    for seed in _seeds(count):
        for kind, number in forget(seed, profile).losses.items():
            total[kind] += number
    return total


@pytest.mark.parametrize("profile", PROFILES)
def test_a_node_that_forgets_its_log_breaks_nothing(profile: str) -> None:
    """Every property of raft/simulation/invariants.py; 60 runs, in which directories are emptied and put back."""
    losses = _losses(profile, 60)
    assert losses["emptied"] >= 10, losses
    assert losses["older"] >= 3, losses


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_a_node_that_forgets_its_log_breaks_nothing_in_2000_runs(profile: str) -> None:
    losses = _losses(profile, 2000)
    assert losses["emptied"] >= 500, losses
    assert losses["older"] >= 150, losses


def _everybody_is_heard(self: Roster, hello: Hello) -> str:
    self._note(hello)
    return ""


def _only_the_number_counts(self: Roster, hello: Hello) -> str:
    """An older copy of a directory has the right number."""
    remembered = self._met.get(hello.node_id)
    return "other" if remembered is not None and remembered.number != hello.met.number else self._note(hello)


@pytest.mark.parametrize(
    ("judge", "profile"),
    [(_everybody_is_heard, "three"), (_everybody_is_heard, "five"), (_only_the_number_counts, "three")],
)
def test_a_node_that_forgets_its_log_and_votes_is_found(judge, profile, monkeypatch) -> None:
    """The planted bug: the members take it for what it was. In many runs a node stops over it (LogLostError); in some it
    goes unnoticed, and a leader is elected that lacks what was acknowledged."""
    monkeypatch.setattr(Roster, "judge", judge)
    for seed in _seeds(1000):
        try:
            forget(seed, profile)
        except Violation as violation:
            if "Leader Completeness" in str(violation):
                return
    pytest.fail("nobody noticed")

"""Random runs keep every property of Raft, and find the bugs that are planted in it."""

from __future__ import annotations

import os

import pytest

from tests.raft.mutants import MUTANTS, Plant
from tests.raft.simulation import PROFILES, Violation, play

SEED = int(os.environ.get("METCD_SEED", "0"))


def _seeds(count: int) -> range:
    """Other seeds for another METCD_SEED, and none twice."""
    return range(SEED * 1_000_000, SEED * 1_000_000 + count)


@pytest.mark.parametrize("name", PROFILES)
def test_random_runs_keep_every_property(name: str) -> None:
    """Figure 3 of the paper, and the rest of the list in simulation.py; 40 runs of 1,500 events for each profile."""
    commits = leaders = 0
    for seed in _seeds(40):
        simulation = play(seed, PROFILES[name], 1500)
        commits += simulation.history.commit
        leaders += len(simulation.history.leaders)
    # Runs in which nothing happens would keep every property, too.
    assert commits > 300, f"only {commits} entries were committed"
    assert leaders > 60, f"only {leaders} leaders were elected"


@pytest.mark.slow
@pytest.mark.parametrize("name", PROFILES)
def test_long_random_runs_keep_every_property(name: str) -> None:
    for seed in _seeds(500):
        play(seed, PROFILES[name], 4000)


def test_random_runs_answer_reads() -> None:
    """The check of reads is worth something only if reads are answered, by leaders and followers."""
    assert sum(play(seed, PROFILES["split"], 1500).reads_answered for seed in _seeds(20)) > 50


@pytest.mark.parametrize(("plant", "profile"), MUTANTS, ids=[plant.__name__ for plant, _ in MUTANTS])
def test_random_runs_find_a_planted_bug(plant: Plant, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least one of at most 1,000 runs must fail; the rarest of these bugs shows in about one run of fifty."""
    plant(monkeypatch)
    for seed in _seeds(1_000):
        try:
            play(seed, PROFILES[profile], 1500)
        except Violation:
            return
    pytest.fail(f"{plant.__name__} was not found")


def test_a_seed_repeats_its_run() -> None:
    """Same seed, same run: every entry, vote and commit of it."""
    first, second = (play(7, PROFILES["members"], 1500) for _ in range(2))
    assert first.history == second.history
    assert first.counter == second.counter

"""Random runs keep every property of Raft; a seed repeats its run; a failing run is printed, and made small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raft import simulator
from raft.simulation.invariants import Violation
from raft.simulation.plan import PROFILES
from raft.simulator import Totals, main, plan_of, run, trace_of
from tests.raft.mutants import MUTANTS, planted

SEED = int(os.environ.get("METCD_SEED", "0"))
REPOSITORY = Path(__file__).parents[2]


def _play(first: int, count: int) -> Totals:
    """These seeds; others for another METCD_SEED, and none twice."""
    totals = Totals()
    for seed in range(SEED * 1_000_000 + first, SEED * 1_000_000 + first + count):
        plan = plan_of(seed)
        try:
            totals.add(run(plan))
        except Violation as violation:
            pytest.fail(f"{violation}\n{simulator.command(plan)}")
    return totals


@pytest.mark.parametrize("first", range(0, 150, 50))
def test_random_runs_keep_every_property(first: int) -> None:
    """Figure 3 of the paper, and the rest of the list in raft/simulation/invariants.py: 150 seeds in three tests."""
    totals = _play(first, 50)
    # Runs in which nothing happens would keep every property, too.
    assert totals.commits > 1_000, totals
    assert totals.leaders > 150, totals
    assert totals.reads > 200, totals


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 20_000, 1_000))
def test_long_random_runs_keep_every_property(first: int) -> None:
    """20,000 seeds, in twenty tests."""
    _play(first + 150, 1_000)


def test_every_kind_of_run_is_drawn() -> None:
    assert {plan_of(seed).profile for seed in range(200)} == set(PROFILES)


@pytest.mark.parametrize("form", simulator.FORMATS)
def test_a_seed_repeats_its_trace_whatever_the_hash_seed(form: str) -> None:
    """Two processes; sets of strings, say, are walked in another order in each."""
    traces = set()
    for hash_seed in ("1", "2"):
        words = [sys.executable, "-m", "raft.simulator", "--seed", "12", "--profile", "members", "--trace", form]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        traces.add(ran.stdout)
    assert len(traces) == 1
    assert traces.pop() == trace_of(plan_of(12, "members"), form)[0]


def test_a_trace_changes_nothing() -> None:
    """The run with a trace is the run without."""
    watched = simulator.Trace()
    plain, traced = run(plan_of(3, "members")), run(plan_of(3, "members"), watched)
    assert plain.history == traced.history
    assert plain.events == traced.events
    assert watched.lines


def test_many_seeds_are_summed_up_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3"]) == 0
    assert capsys.readouterr().out.startswith("3 runs, 0 violations: ")


def test_a_failing_seed_is_printed_as_a_command_and_made_small(capsys: pytest.CaptureFixture[str]) -> None:
    """With a bug planted. The printed command fails alike, and has fewer steps."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == "vote_goes_to_any_log"]
    with planted(mutant) as broken:
        assert broken.main(["--seeds", "50"]) == 1
        said, first, summary, second = capsys.readouterr().out.splitlines()
        whole, small = first.split(), second.split()
        few, _, many, *_ = summary.split()
        assert int(few) < int(many) / 4
        assert whole[:3] == small[:3] == ["python", "-m", "raft.simulator"]
        assert broken.main(small[3:]) == 1
        output = capsys.readouterr()
    # `--trace` is the last word of the small command, so what it violates is on standard error.
    assert output.err.partition(":")[0] == said.split(": ")[1]
    assert "sends to" in output.out
    assert main(small[3:-1]) == 0, "without the bug it doesn't fail"


@pytest.mark.parametrize("words", [[], ["--seed", "1", "--seeds", "2"], ["--seed", "1", "--without", "rain"]])
def test_a_wrong_command_line_says_what_is_right(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert "give --seed or --seeds" in (said := capsys.readouterr().err) or "--without knows drift" in said

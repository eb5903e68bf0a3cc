"""`python -m tests.crash`: what it says, of the toy engine and of broken ones of somebody's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from engines.simenv import Policy
from tests.crash.__main__ import main
from tests.crash.subjects import TOY

FLAWED = f"{Path(__file__).parent}/flawed_toys.py"
BROKEN = f"{Path(__file__).parents[1]}/conformance/broken_toys.py"
SAMPLE = ["--images", "600", "--runs", "5", "--attempts", "50"]


@pytest.mark.parametrize("where", [TOY, "examples.toy:ToyStore"])
def test_an_engine_is_named_by_its_place(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's path or a module's name."""
    assert main([where, *SAMPLE, "--only", "damage"]) == 0
    assert f"python -m tests.crash {where}" in capsys.readouterr().out


@pytest.mark.slow
def test_each_part_of_a_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """That each fsync is needed, what is lost without, and what the policies mean."""
    assert main([TOY, *SAMPLE]) == 0
    told = capsys.readouterr().out
    assert "each of the 8 fsyncs is needed: without it this is lost" in told and "NOTHING is lost" not in told
    assert set(re.findall(r"^ {4}(toy[.\w]*) +\w", told, re.MULTILINE)) == {
        "toy.append",
        "toy.checkpoint",
        "toy.checkpoint.name",
        "toy.flush",
        "toy.log.name",
        "toy.mkdir",
        "toy.recover",
        "toy.recover.name",
    }
    assert "lost: b'probe' = b'0'" in told
    assert all(f"  {policy.value:20s} {policy.meaning}" in told for policy in Policy), "the legend"


def test_what_was_lost_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """Pair by pair, nothing cut; one failure of each moment, and how many more there are. Not every sample finds one."""
    assert main([f"{FLAWED}:UnlinksFirst", *SAMPLE, "--only", "power", "--seed", "0"]) == 1
    told = capsys.readouterr().out
    assert "FAILED cut after call" in told and "lost: b'key" in told and " more\n" in told
    assert " ... " not in told
    assert len(told.splitlines()) < 30


def test_no_fsync_is_judged_while_all_of_them_lose_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{BROKEN}:NeverSyncs", *SAMPLE, "--only", "power", "--only", "sites"]) == 1
    assert "not looked at" in capsys.readouterr().out


@pytest.mark.slow  # that nothing is lost is known only after every cut
def test_a_superfluous_fsync_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{FLAWED}:SyncsTwice", *SAMPLE, "--only", "sites"]) == 1
    told = capsys.readouterr().out
    assert "of the 9 fsyncs can be left out, and nothing is lost" in told
    assert "toy.twice                        NOTHING is lost" in told


def test_an_engine_past_its_env_is_told_so_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It would make real files under the simulated disk's path."""
    assert main([f"{BROKEN}:GoesPastItsEnv", *SAMPLE]) == 1
    assert "FAILED the engine goes past its Env (os.mkdir of /disk" in capsys.readouterr().out
    assert not os.path.exists("/disk/db")


def test_an_engine_that_fails_with_the_power_on_is_told_in_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{BROKEN}:ReadersWait", "--images", "200", "--only", "power"]) == 0, "that is the conformance suite's"
    assert main([f"{FLAWED}:CannotScan", *SAMPLE]) == 1
    told = capsys.readouterr().out
    assert "FAILED with the power on, before any cut: KeyError" in told and len(told.splitlines()) < 40


@pytest.mark.parametrize("name", ["nobody", "nobody.py:Nothing", "engines.memory:MemoryStore"])
def test_what_cannot_be_run_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name, a file that isn't there, an engine that keeps no files."""
    with pytest.raises(SystemExit):
        main([name])
    assert f"no subject is called {name!r}" in capsys.readouterr().err

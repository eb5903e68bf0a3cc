"""The verb `trace`: a film of a seed or of a script, in a file; what makes no sense is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.cli import main

SCRIPT = Path(__file__).parents[1] / "raft" / "scripts" / "01_election.txt"


def test_a_seed_is_filmed_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the words that the simulator prints for a failing run."""
    monkeypatch.chdir(tmp_path)
    words = ["--seed", "3", "--profile", "calm", "--keep", "1,2", "--without", "loss", "--drop", "7", "--forks", "0"]
    assert main(["trace", *words]) == 0
    assert "raft-3.html: seed 3" in capsys.readouterr().out
    text = (tmp_path / "raft-3.html").read_text("utf-8")
    assert '"words":"python -m raft.simulator --seed 3 --profile calm --keep 1,2 --without loss"' in text
    assert '"dropped":[7]' in text


def test_a_script_is_filmed_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["trace", str(SCRIPT)]) == 0
    assert "01_election.html: " in capsys.readouterr().out
    assert (tmp_path / "01_election.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes a SCRIPT, or --seed N"),
        ([str(SCRIPT), "--seed", "3"], "takes a SCRIPT, or --seed N"),
        ([str(SCRIPT), "--drop", "3"], "--drop is for a run of the simulator, and "),
        (["no-such-script.txt"], "No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_message_that_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["trace", "--seed", "3", "--drop", "x"])
    assert refused.value.code == 2
    assert "it is numbers with commas between them, as 3,17, and not 'x'" in capsys.readouterr().err

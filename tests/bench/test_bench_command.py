"""`python -m bench`: the engines side by side, counted."""

import pytest

from bench.__main__ import main


def test_the_engines_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys", "50", "--operations", "40", "--mix", "get=0.5,put=0.3,scan=0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "for each of 40 operations on 50 keys, zipfian:"
    assert [line.split()[0] for line in lines[2:]] == ["lsm", "btree", "bitcask"]


@pytest.mark.parametrize("chooser", ["uniform", "latest"])
def test_one_engine_and_another_chooser(chooser: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--engine", "bitcask", "--chooser", chooser, "--keys", "9", "--operations", "9"]
    assert main([*words, "--mix", "get=0.5,insert=0.25,delete=0.25"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("bitcask")


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        ("get=0.5", "make 1 together"),
        ("get=1.5,put=-0.5", "at least 0"),
        ("colour=1", "no operation is called colour"),
        ("get=x", "could not convert"),
    ],
)
def test_a_mix_that_is_none_is_refused(mix: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--mix", mix])
    assert sentence in capsys.readouterr().err


def test_a_store_has_at_least_one_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--keys", "0"])
    assert "at least 1" in capsys.readouterr().err

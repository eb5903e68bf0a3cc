"""`python -m bench.amplification`: what random puts cost the disk."""

from __future__ import annotations

import importlib.util

import pytest

from bench import amplification
from bench.amplification import Amplified, levels_bytes_written, main, table

LEVELDB = """                               Compactions
Level  Files Size(MB) Time(sec) Read(MB) Write(MB)
--------------------------------------------------
  0        2        6         2        0       103
  1        5       10         3      153       142
"""


def test_bytes_written_are_summed_over_levelsdbs_levels() -> None:
    assert levels_bytes_written(LEVELDB) == (103 + 142) << 20
    assert levels_bytes_written("no table") == 0


def test_a_line_for_each_subject() -> None:
    """Ratios, and a dash for what a subject doesn't tell."""
    leveldb = Amplified(
        subject="LevelDB", puts=1_000, seconds=0.01, user_bytes=1_000, own_bytes=4_000, written_bytes=5_100,
        live_bytes=500, disk_bytes=800, resident_bytes=None, reads_per_get=None,
    )  # fmt: skip
    assert [line.split() for line in table([leveldb])][1:] == [
        ["LevelDB", "5.10", "4.00", "1.60", "-", "-", "100"],
    ]


def test_the_command_without_leveldb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts in a real process: bitcask writes its header of 14 bytes to each pair of 116, and reads a record for each get."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(amplification, "QUIET_S", 0.2)  # this engine puts nothing off
    assert main(["--puts", "500", "--engine", "bitcask", "--levels"]) == 0
    printed = capsys.readouterr()
    assert "LevelDB isn't here to stand beside" in printed.err
    title, _, line = printed.out.splitlines()
    assert title == "500 random puts, values of 100 bytes, not synced:"
    assert line.split()[:2] == ["bitcask", "1.12"] and line.split()[4] == "1.00"


@pytest.mark.parametrize("puts", ["0", "-5", "1.5", "nan", "inf", "many"])
def test_puts_are_a_whole_number(puts: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--puts={puts}"])
    assert f"a whole number from 1 to 100,000,000, and this is '{puts}'" in capsys.readouterr().err


def test_an_engine_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--engine", "nosuch"]) == 2
    assert "no engine is called 'nosuch'" in capsys.readouterr().err

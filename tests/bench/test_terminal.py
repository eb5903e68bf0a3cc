"""The results in a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from bench.terminal import Screen, shown
from tests.bench.sample_results import sample


def test_bars_have_the_figure_the_spread_and_the_ratio() -> None:
    lines = list(shown(sample(), Screen(100), base="LevelDB"))
    head = lines.index("readrandom, 10,000 keys: thousand operations a second; the last column is the ratio to LevelDB")
    bars = lines[head + 1 : head + 5]
    assert [bar.split()[0] for bar in bars] == ["bitcask", "btree", "LevelDB", "lsm"]
    assert bars[0].split()[2:] == ["500", "481", "to", "515", "3.50"]
    assert [bar.count("█") for bar in bars] == [50, 25, 14, 12]
    assert bars[2].count("▎") == 1  # 14 and 2/8 of 50: 2/3.5 of the full length


@pytest.mark.parametrize("width", [100, 60, 40, 24])
def test_no_line_of_bars_is_wider_than_the_terminal(width: int) -> None:
    lines = list(shown(sample(), Screen(width)))
    assert [line for line in lines if len(line) > max(width, 32)] == []
    assert any("█" in line for line in lines) == (width >= 40)


def test_a_pipe_gets_no_codes_and_a_terminal_without_blocks_gets_signs() -> None:
    screen = Screen.of(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert (screen.styled, screen.blocks) == (False, False)
    text = "\n".join(shown(sample(), replace(screen, width=100)))
    assert "\033" not in text
    assert "#" * 50 in text
    assert "\033[1m" in "\n".join(shown(sample(), Screen(100, styled=True)))


def test_a_name_sends_the_terminal_no_command() -> None:
    results = sample()
    subjects = [replace(each, name=each.name.replace("lsm", "a\033[31mb")) for each in results.subjects]
    measured = [replace(each, subject=each.subject.replace("lsm", "a\033[31mb")) for each in results.measured]
    durability = [replace(each, subject=each.subject.replace("lsm", "a\033[31mb")) for each in results.durability]
    evil = replace(results, subjects=subjects, measured=measured, durability=durability, command="x\033[2J")
    text = "\n".join(shown(evil, Screen(100)))
    assert "a?[31mb" in text
    assert "\033" not in text


def test_a_base_that_is_no_subject_is_refused() -> None:
    with pytest.raises(ValueError, match="no subject is called 'rocksdb': lsm, btree, bitcask, LevelDB are"):
        shown(sample(), Screen(), base="rocksdb")


def test_a_document_without_anything_says_so() -> None:
    empty = replace(sample(), measured=[], durability=[], subjects=[])
    assert "No throughput: nothing was measured." in "\n".join(shown(empty, Screen(200)))


def test_a_write_through_a_mapping_is_explained_where_calls_are_counted() -> None:
    lines = list(shown(sample(), Screen(200)))
    assert any("A write through a mapping makes no call, and counts 0" in line for line in lines)
    assert not any("mapping" in line for line in shown(replace(sample(), durability=[]), Screen(200)))

"""Porcupine's two formats, in histories of our own whose verdict is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.porcupine import judge_text, main

REGISTERS = {
    "a cas that compares right": ("0 invoke write 3|0 ok write 3|1 invoke cas [3 4]|1 ok cas [3 4]|0 invoke read nil|0 ok read 4", True),
    "a stale read": ("0 invoke write 3|0 ok write 3|1 invoke write 4|1 ok write 4|0 invoke read nil|0 ok read 3", False),
    "a cas that should have failed": ("0 invoke write 3|0 ok write 3|1 invoke cas [2 4]|1 ok cas [2 4]", False),
    "a cas that should not have failed": ("0 invoke write 3|0 ok write 3|1 invoke cas [3 4]|1 fail cas [3 4]", False),
    "an unknown write that happened late": (
        "0 invoke write 3|0 info write :timed-out|1 invoke read nil|1 ok read nil|1 invoke read nil|1 ok read 3", True),
    "an unknown write that goes away again": (
        "0 invoke write 3|0 info write :timed-out|1 invoke read nil|1 ok read 3|1 invoke read nil|1 ok read nil", False),
    "an unknown cas that compared right": (
        "0 invoke write 1|0 ok write 1|2 invoke cas [1 2]|2 info cas :timed-out|1 invoke read nil|1 ok read 2", True),
    "an unknown cas that can't have": (
        "0 invoke write 1|0 ok write 1|2 invoke cas [3 2]|2 info cas :timed-out|1 invoke read nil|1 ok read 2", False),
    "a read that timed out": ("0 invoke write 1|0 ok write 1|1 invoke read nil|1 fail read :timed-out", True),
}  # fmt: skip
STORES = {
    "appends one after the other": ('0 invoke append a "x"|0 ok append a "x"|0 invoke append a "y"|0 ok append a "y"|1 invoke get a nil|1 ok get a "xy"', True),
    "appends in the other order": ('0 invoke append a "x"|0 ok append a "x"|0 invoke append a "y"|0 ok append a "y"|1 invoke get a nil|1 ok get a "yx"', False),
    "a put between": ('0 invoke append a "x"|1 invoke put a "z"|1 ok put a "z"|0 ok append a "x"|1 invoke get a nil|1 ok get a "zx"', True),
    "another key": ('0 invoke append a "x"|0 ok append a "x"|1 invoke get b nil|1 ok get b "x"', False),
}  # fmt: skip


def jepsen(short: str) -> str:
    lines = (line.split(" ", 3) for line in short.split("|"))
    return "\n".join(f"INFO  jepsen.util - {p}\t:{kind}\t:{what}\t{value}" for p, kind, what, value in lines)


def kv(short: str) -> str:
    lines = (line.split(" ", 4) for line in short.split("|"))
    return "\n".join(
        f'{{:process {p}, :type :{kind}, :f :{what}, :key "{key}", :value {value}}}'
        for p, kind, what, key, value in lines
    )


@pytest.mark.parametrize("name", REGISTERS)
def test_a_register_as_jepsen_logs_it(name: str) -> None:
    short, expected = REGISTERS[name]
    assert judge_text(jepsen(short)) is expected


@pytest.mark.parametrize("name", STORES)
def test_a_store_that_appends(name: str) -> None:
    short, expected = STORES[name]
    assert judge_text(kv(short)) is expected


def test_the_command_says_which_file_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a cas that compares right", "a stale read"):
        (tmp_path / name).write_text(jepsen(REGISTERS[name][0]))
    assert main([str(tmp_path / name) for name in ("a cas that compares right", "a stale read")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("right: linearizable") and told[1].endswith("read: NOT linearizable")
    with pytest.raises(ValueError, match="no line"):
        judge_text("a file of something else")

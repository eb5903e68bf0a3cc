"""server/GATEWAY.md: each line about etcd names a recorded situation or a test file; its tables of rows are what the code
writes."""

from __future__ import annotations

import re
from pathlib import Path

from server.mvcc_rows import CHANGE, HISTORY, NEWEST, REVISION, USER, VERSION
from server.v3.alarms import ALARM_ROW, DOWNGRADE_ROW
from server.v3.attributes import NAME_ROW
from tests.gateway.exceptions import EXCEPTIONS
from tests.gateway.transcripts import names
from tests.tidy import REPOSITORY

PAGE = (Path(REPOSITORY) / "server" / "GATEWAY.md").read_text()
BEFORE, _, ROWS = PAGE.partition("## The rows")
ABOUT_ETCD, _, DEPARTURES = BEFORE.partition("## Where metcd differs")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_line_about_etcd_names_tests_that_are_there() -> None:
    files = {file.relative_to(REPOSITORY).as_posix() for file in Path(REPOSITORY, "tests").rglob("test_*.py")}
    known = files | set(names())
    lines = [line for line in ABOUT_ETCD.splitlines() if line.startswith("|") and "---" not in line]
    bodies = [line for line in lines if cells(line)[-1] != "test"]
    assert len(bodies) > 60
    for line in bodies:
        named = re.findall(r"`([^`]+)`", cells(line)[-1])
        assert named and set(named) <= known, line


def test_each_kind_of_departure_is_told() -> None:
    """The runner's exceptions are the ones that a recorded situation can show."""
    assert "Outside of `/v3/` a path is a key" in DEPARTURES and "**hashkv**" in DEPARTURES
    assert "a transaction without a put goes on" in DEPARTURES
    paths = {name for name, reason in EXCEPTIONS.items() if "a path is a key" in reason}
    assert EXCEPTIONS.keys() - paths == {"hashkv", "quota-txn-range"}


def sizes(table: str) -> list[tuple[int, int]]:
    """Offset and size of each field but the last, which takes what is left."""
    found = [cells(line)[:2] for line in table.splitlines() if re.match(r"\| \d+ \| \d+ \|", line)]
    return [(int(offset), int(size)) for offset, size in found]


def test_the_byte_tables_add_up_to_what_is_written() -> None:
    newest, change = ROWS.split("\nA change:\n")
    for table, size in ((newest, NEWEST.size), (change, CHANGE.size)):
        fields = sizes(table)
        assert len(fields) >= 5
        assert [offset for offset, _ in fields] == [sum(size for _, size in fields[:at]) for at in range(len(fields))]
        assert sum(size for _, size in fields) == size


def test_every_row_is_named() -> None:
    for row in (USER, HISTORY, REVISION, VERSION, ALARM_ROW, DOWNGRADE_ROW, NAME_ROW):
        assert f"`{row.decode()}" in ROWS

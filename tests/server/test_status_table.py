"""The table of nodes, and the live lines: what people see."""

from __future__ import annotations

import pytest

from server.live_lines import LiveLines, Rates
from server.status_table import byte_size, status_lines


def _status(node_id, **changes):
    return {
        "id": node_id, "engine": "lsm", "role": "follower", "leader": 1, "term": 3, "commit_index": 1204,
        "applied_index": 1204, "kept_out": "", "connected": {"1": True, "3": False}, "stats": {"disk_bytes": 1_400_000},
    } | changes  # fmt: skip


def test_the_table_has_a_row_for_each_node_and_a_line_for_what_is_wrong():
    lines = status_lines(
        [
            ("http://a:1", _status(1, role="leader", connected={"2": True, "3": True})),
            ("http://b:1", _status(2, applied_index=1200)),
            ("http://c:1", "connection refused"),
            ("http://d:1", _status(4, role="pre_candidate", leader=0, kept_out="another directory", readmission="it asks", commit_index=7, applied_index=7)),
        ]
    )  # fmt: skip
    assert lines == [
        "node  engine  role           leader  term  applied  lag    disk    links",
        "1     lsm     leader         1       3     1,204    0      1.4 MB  2, 3",
        "2     lsm     follower       1       3     1,200    4      1.4 MB  1; 3 not in use",
        "-     http://c:1 is unreachable: connection refused",
        "4     lsm     pre-candidate  none    3     7        1,197  1.4 MB  1; 3 not in use",
        "node 4 is kept out: another directory",
        "node 4: it asks",
    ]


def test_a_front_is_no_node_and_tells_of_its_etcd():
    etcd = [
        {"url": "http://e:1", "member_id": 7, "version": "3.4.23", "leads": True, "leader": 7, "term": 2, "revision": 1669},
        {"url": "http://e:2", "member_id": 8, "version": "3.4.23", "leads": False, "leader": 7, "term": 2, "revision": 1668},
        {"url": "http://e:3", "error": "it can't be reached: [Errno 111] Connection refused"},
    ]  # fmt: skip
    assert status_lines([("http://f:1", {"front": True, "etcd": etcd})])[1:] == [
        "-     http://f:1 is a front: http://e:1: etcd 3.4.23, leader, term 2, revision 1,669",
        "-     http://f:1 is a front: http://e:2: etcd 3.4.23, follower, term 2, revision 1,668",
        "-     http://f:1 is a front: http://e:3: it can't be reached: [Errno 111] Connection refused",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_440_000, "1.4 MB"), (999_600, "1.0 MB"), (123_456_789, "123 MB"), (5 * 10**15, "5000 TB")],
)  # fmt: skip
def test_sizes_are_for_people(size, text):
    assert byte_size(size) == text


class Terminal:
    """A terminal's lines, as its two escape sequences leave them."""

    def __init__(self, width=40):
        self.lines = []
        self.width = width

    def write(self, text):
        while text.startswith("\x1b["):
            up = int(text[2 : text.index("F")])
            del self.lines[len(self.lines) - up :]
            text = text[text.index("F") + 1 :].removeprefix("\x1b[J")
        assert all(len(line) < self.width for line in text.splitlines()), "it would wrap"
        self.lines += text.split("\n")


def test_lines_scroll_by_above_the_block():
    terminal = Terminal()
    live = LiveLines(terminal.write, lambda: terminal.width)
    live.say("before")
    live.draw(["one", "two"])
    live.say("above")
    live.draw(["one again", "x" * 100])
    assert terminal.lines == ["before", "above", "one again", "x" * 39]
    live.end()
    live.say("after")
    assert terminal.lines[-2:] == ["x" * 39, "after"]


def test_a_live_line_says_what_happened_since_the_last_one():
    rates = Rates()
    assert rates.line(1, _status(1, role="leader"), 10.0).split() == [
        "node",
        "1",
        "leader",
        "term",
        "3",
        "applied",
        "1,204",
        "0",
        "writes/s",
        "1.4",
        "MB",
    ]
    assert "410 writes/s" in rates.line(1, _status(1, applied_index=2024), 12.0)
    assert rates.line(1, None, 13.0) == "node 1  away"
    assert " 0 writes/s" in rates.line(1, _status(1, applied_index=9000), 14.0), "it may have been somebody else's work"

"""Dumps of stores that nobody reads from end to end: a summary, pages, lines of a bounded length, and keys alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import engines
from server import inspect
from server.cli import main
from server.config import NodeConfig
from server.dump_pages import LIMIT_LINES, LINE_CHARS_MAX, pages, shortened
from server.node import Node
from tests.server.local_nodes import eventually, free_ports

FILES = [name for name in engines.ENGINES if name != "memory"]


@pytest.fixture(scope="module", params=FILES)
def large(request, tmp_path_factory):
    """A store of 2,000 keys with a value of 4,000 bytes each: (engine, directory)."""
    path = tmp_path_factory.mktemp("large") / request.param
    with engines.open(path, request.param, sync=False) as store:
        for at in range(0, 2000, 100):
            with store.batch() as batch:
                for number in range(at, at + 100):
                    batch.put(b"key%04d" % number, bytes([number % 256]) * 4000)
        store.flush()
    return request.param, path


def _dump(capsys, *words):
    status = main(["dump", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_a_large_store_begins_with_a_summary_and_pages(large, capsys):
    engine, path = large
    status, lines = _dump(capsys, path, "--limit", "5")
    assert status == 0
    assert lines[0].startswith(f"{path} is {engine}: ") and " file" in lines[0] and lines[0].endswith("MB")
    first = lines.index("lines 1 to 5:") + 1
    assert len(lines) == first + 6
    assert lines[-1] == f"More follows: metcd dump {path} --page 2 (--limit 0 shows all)"
    assert max(map(len, lines)) <= LINE_CHARS_MAX + 30
    _, second = _dump(capsys, path, "--limit", "5", "--page", "2")
    at = second.index("lines 6 to 10:") + 1
    all_of_it = list(map(shortened, inspect.dump(path)))
    assert lines[first:-1] + second[at : at + 5] == all_of_it[:10]
    assert _dump(capsys, path, "--limit", "0")[1] == all_of_it, "and all of it without a limit"


def test_the_last_page_has_no_successor_and_one_after_it_says_so(large, capsys):
    _, path = large
    count = sum(1 for _ in inspect.dump(path))
    limit = count // 2 + 1
    assert not _dump(capsys, path, "--limit", limit, "--page", 2)[1][-1].startswith("More follows")
    assert _dump(capsys, path, "--limit", limit, "--page", 3)[1][-1] == "there is no page 3"


def test_the_keys_alone(large, capsys):
    _, path = large
    status, lines = _dump(capsys, path, "--keys", "--limit", "0")
    assert (status, len(lines)) == (0, 2000)
    assert lines[7] == "b'key0007'  4,000 bytes"
    assert lines == sorted(lines)


def test_a_dump_of_a_page_or_less_is_printed_as_it_is(tmp_path):
    lines = [str(number) for number in range(LIMIT_LINES)]
    assert list(pages(tmp_path, iter(lines), 1, LIMIT_LINES)) == lines


def test_what_is_after_a_page_is_not_read(tmp_path):
    counted = itertools.count()
    assert len(list(pages(tmp_path, map(str, counted), 2, 10))) == 10 + 3
    assert next(counted) == 21, "one line more, to know that there is one"


def test_a_long_line_is_cut_and_says_how_long_it_was():
    assert shortened("x" * LINE_CHARS_MAX) == "x" * LINE_CHARS_MAX
    assert shortened("x" * 4000) == "x" * LINE_CHARS_MAX + "… (4,000 characters)"


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_nodes_directory_shows_its_users_keys(engine, tmp_path: Path, capsys):
    (port,) = free_ports(1)
    node = Node(NodeConfig(1, {1: ("127.0.0.1", port)}, str(tmp_path / "n"), engine, tick_s=0.002, snapshot_entries=5))
    node.start()
    eventually("it leads", lambda: node.status()["leader"] == 1)
    for number in range(10):
        node.propose([(b"key%d" % number, b"v" * number)])
    eventually("there is a snapshot", lambda: engine != "memory" or list((tmp_path / "n/snap").glob("*.snap")))
    status, _ = (main(["dump", str(tmp_path / "n"), "--keys"]), capsys.readouterr()) if engine == "lsm" else (2, "")
    assert status == 2, "a store that somebody has open is refused"
    node.stop()
    status, lines = _dump(capsys, tmp_path / "n", "--keys")
    assert status == 0 and lines[:3] == ["b'key0'  0 bytes", "b'key1'  1 bytes", "b'key2'  2 bytes"]
    _, lines = _dump(capsys, tmp_path / "n", "--limit", "2")
    assert lines[0].startswith(f"{tmp_path}/n is a node's directory, on the engine {engine!r}: ")
    assert any(line.startswith("  1 wal/*.wal, ") for line in lines)


@pytest.mark.parametrize("words", [["--page", "0"], ["--limit", "-1"], ["--page", "x"]])
def test_what_is_no_page_is_refused(words, tmp_path, capsys):
    try:
        assert main(["dump", str(tmp_path), *words]) == 2
    except SystemExit as error:  # argparse
        assert error.code == 2
    assert "page" in capsys.readouterr().err or words[0] == "--limit"


def test_the_pages_of_a_large_bolt_file_are_counted_and_shown_in_rows(tmp_path, capsys):
    with engines.open(tmp_path / "my.db", "btree", sync=False) as store:
        store.load((b"%06d" % number, b"v" * 1000) for number in range(2000))
    lines = list(inspect.dump(tmp_path / "my.db"))
    counted = next(line for line in lines if line.startswith("the pages of txid "))
    assert "2 meta (M)" in counted and "leaf (L)" in counted and len(counted) < 200
    rows = [line.partition(": ")[2] for line in lines if line.startswith("pages ")]
    assert len(rows) > 3 and {len(row) for row in rows[:-1]} == {100}

"""server/engine_options.py: `--option NAME=VALUE` of `metcd serve` and `metcd cluster`."""

from __future__ import annotations

from pathlib import Path

import pytest

import engines
from engines import InvalidOption
from server.cli import main
from server.cluster import LocalCluster
from server.config import NodeConfig
from server.engine_options import engine_options, options_of_nodes, share_out
from server.verbs import nodes


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_what_a_node_decides_is_no_option_of_its(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """sync, create and read_only; `metcd options` lists the others."""
    assert options_of_nodes(engine).keys() == engines.options(engine).keys() - {"sync", "create", "read_only"}
    with pytest.raises(InvalidOption, match=f"the engine {engine!r} has no option 'sync'"):
        engine_options(engine, ["sync=true"])
    assert main(["options", engine]) == 0
    listed = capsys.readouterr().out.split("\n")
    assert [line.partition("=")[0] for line in listed if line] == list(options_of_nodes(engine))


def test_a_node_merges_in_a_thread_unless_it_is_told_otherwise() -> None:
    assert engine_options("bitcask", []) == {"merge": "thread"}
    assert engine_options("bitcask", ["merge=inline", "max_open_files=7"]) == {"merge": "inline", "max_open_files": 7}
    assert engine_options("lsm", []) == {}
    assert str(options_of_nodes("bitcask")["merge"]).startswith("merge='thread': ")


def test_an_option_goes_to_each_node_that_has_it() -> None:
    """A cluster of several engines: a word goes where it means something, and somewhere it must."""
    nodes = ["lsm", "btree", "bitcask", "lsm"]
    words = ["fill_percent=0.7", "max_open_files=7", "compression=none"]
    assert share_out(nodes, words) == [words[1:], words[:1], words[1:2], words[1:]]
    assert share_out(nodes, []) == [[], [], [], []]
    with pytest.raises(InvalidOption, match="none of the engines lsm, btree, bitcask has an option as in 'colour=red'"):
        share_out(nodes, ["colour=red"])
    with pytest.raises(InvalidOption, match="the engine 'bitcask' wants max_open_files to be an integer of at least 1"):
        share_out(["btree", "bitcask"], ["max_open_files=0"])


def test_the_command_line_of_a_node_has_its_options(tmp_path: Path) -> None:
    """LocalCluster: also the line that brings a killed node back."""
    cluster = LocalCluster(["lsm", "btree"], str(tmp_path), options=[["max_frozen=8", "filter=none"], []])
    first, second = cluster.nodes
    assert "--engine lsm --option max_frozen=8 --option filter=none --data" in cluster.command_line(first)
    assert "--option" not in cluster.command_line(second)


def test_serve_opens_its_engine_with_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NodeConfig.engine_options, with their types."""
    seen: list[NodeConfig] = []

    class Stopped(Exception):
        """In place of a node."""

    def node(config: NodeConfig) -> None:
        seen.append(config)
        raise Stopped

    monkeypatch.setattr(nodes, "Node", node)
    monkeypatch.setattr(nodes, "stop_event", lambda: None)
    words = ["serve", "--id", "1", "--cluster", "http://127.0.0.1:1", "--data", str(tmp_path / "n"), "--engine", "lsm"]
    with pytest.raises(Stopped):
        main([*words, "--option", "max_frozen=8", "--option", "filter=none", "--option", "background=False"])
    assert seen[0].engine_options == {"max_frozen": 8, "filter": None, "background": False}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "lsm", "--option", "max_frozen"], "an option is NAME=VALUE, and this is 'max_frozen'"),
        (["--engine", "lsm", "--option", "fill_percent=1"], "the engine 'lsm' has no option 'fill_percent': it has "),
        (["--engine", "memory", "--option", "sync=false"], "the engine 'memory' has no option 'sync'"),
        (["--engine", "btree", "--option", "cache_bytes=-1"], "wants cache_bytes to be an integer of at least 0, and"),
    ],
)
def test_a_wrong_option_of_serve_is_one_line(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is opened."""
    monkeypatch.setattr(nodes, "stop_event", lambda: None)
    given = ["serve", "--id", "1", "--cluster", "http://127.0.0.1:1", "--data", str(tmp_path / "n"), *words]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "n").exists()

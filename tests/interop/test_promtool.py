"""`promtool check metrics`, of Debian's prometheus, reads what a node says, and finds nothing against its rules for names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.http import FrontEnd
from tests.server.fake_node import Wire
from tests.server.local_nodes import LocalCluster

README = Path(__file__).parents[2] / "README.md"


def _check(text: bytes) -> subprocess.CompletedProcess[bytes]:
    assert shutil.which("promtool"), "promtool is missing: apt-get install prometheus"
    return subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask", "memory"])
def test_promtool_has_nothing_to_say(tmp_path, engine):
    with LocalCluster(tmp_path, [engine]) as cluster:
        leader = cluster.leader()
        cluster.put(leader, b"k", b"v")
        front = FrontEnd(leader, ("127.0.0.1", 0))
        front.start()
        try:
            with Wire(front.address) as wire:
                assert wire.ask("GET", "/k")[0] == 200
                text = wire.ask("GET", "/_/metrics")[2]
        finally:
            front.stop()
    checked = _check(text)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b""), text.decode()


def test_the_queries_of_the_readme_are_queries(tmp_path):
    """As expressions of alerting rules, which promtool parses."""
    (block,) = re.findall(r"```promql\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    queries = [query.strip() for query in block.split("\n\n")]
    assert len(queries) == 3
    rules = [{"alert": f"Query{at}", "expr": query} for at, query in enumerate(queries)]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "readme", "rules": rules}]}))
    words = ["promtool", "check", "rules", str(tmp_path / "rules.json")]
    checked = subprocess.run(words, capture_output=True, timeout=60)
    assert checked.returncode == 0 and b"3 rules found" in checked.stdout, checked


def test_promtool_would_say_it():
    """The judge judges: a counter without _total, and text that is no metric."""
    checked = _check(b"# HELP metcd_x Some.\n# TYPE metcd_x counter\nmetcd_x 1\n")
    assert checked.returncode != 0 and b"_total" in checked.stdout + checked.stderr
    assert _check(b"metcd_x{ 1\n").returncode != 0

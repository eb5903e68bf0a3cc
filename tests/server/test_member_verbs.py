"""`metcd member` and `metcd serve --join`, with real processes: a second node joins, votes, is replaced, and goes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from server.cli import main
from server.client import Client
from tests.server.local_nodes import eventually, free_ports

METCD = [sys.executable, "-m", "server"]


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def healthy(url: str) -> bool:
    with Client([url], 1.0) as client:
        return client.health()


def serve(processes, node_id: int, port: int, data, *words: str) -> subprocess.Popen[bytes]:
    command = [*METCD, "serve", "--id", str(node_id), "--port", str(port), "--data", str(data), *words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    processes.append(process)
    return process


@pytest.fixture
def member(capsys):
    """Runs `metcd member` in this process: (exit status, standard output, standard error)."""

    def run(*words: str) -> tuple[int, str, str]:
        return main(["member", *words]), *capsys.readouterr()

    return run


def test_a_node_joins_votes_is_replaced_and_goes(processes, member, tmp_path):
    one, peer_one, two, peer_two = free_ports(4)
    url, peer_url = f"http://127.0.0.1:{one}", f"http://127.0.0.1:{peer_two}"
    at = ("--endpoints", url)
    serve(processes, 1, one, tmp_path / "1", "--cluster", f"http://127.0.0.1:{peer_one}")
    eventually("it serves", lambda: healthy(url))
    early = serve(processes, 2, two, tmp_path / "2", "--join", url)
    assert early.wait(30) == 2
    assert b"node 2 is not a member: add it first" in early.stderr.read()
    status, _, told = member("add", "2", peer_url, *at)
    assert (status, "add node 2 as a learner" in told) == (2, True)
    assert "metcd serve --id 2 --join" in member("add", "2", peer_url, "--learner", *at)[1]
    joined = serve(processes, 2, two, tmp_path / "2", "--join", url, "--engine", "lsm")
    eventually("it has caught up and votes", lambda: member("promote", "2", *at)[0] == 0)
    assert "2     http://127.0.0.1:" in member("list", *at)[1]
    joined.kill()
    joined.wait()
    again = serve(processes, 2, two, tmp_path / "2", "--engine", "lsm")  # the directory knows the rest
    eventually("it serves", lambda: healthy(f"http://127.0.0.1:{two}"))
    assert member("remove", "2", *at)[0] == 0
    assert again.wait(30) == 2
    assert again.stderr.read().count(b"node 2 was removed from cluster") == 1
    refused = serve(processes, 2, two, tmp_path / "2", "--engine", "lsm")
    assert refused.wait(30) == 2
    assert b"its directory takes no part any more" in refused.stderr.read()
    status, _, told = member("replace", "2", peer_url, "--wait", "0", *at)
    assert (status, "goes on from here" in told) == (2, True)
    serve(processes, 2, two, tmp_path / "anew", "--join", url, "--engine", "btree")
    assert "node 2 is replaced, and votes" in member("replace", "2", peer_url, *at)[1]

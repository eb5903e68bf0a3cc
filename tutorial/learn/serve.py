"""`metcd learn serve`: a cluster of three nodes on the learner's engines, Raft and server, until Ctrl-C.

It is `metcd cluster --engines DIR:lsm,btree,bitcask`, with the nodes' files in DIR/cluster, which the course directory's
commits leave out.
"""

from __future__ import annotations

from pathlib import Path

from server import cli
from server.cluster import FIRST_PORT

__all__ = ["ENGINES", "serve"]

ENGINES = ("lsm", "btree", "bitcask")
FOLDER = "cluster"


def serve(directory: Path, port: int = FIRST_PORT, engines: tuple[str, ...] = ENGINES) -> int:
    """Starts it in the foreground, and returns its exit status. port: node 1's, for clients."""
    data = directory / FOLDER
    data.mkdir(exist_ok=True)
    (data / ".gitignore").write_text("*\n", "utf-8")
    words = ["--engines", f"{directory.resolve()}:{','.join(engines)}", "--data", str(data), "--port", str(port)]
    return cli.main(["cluster", *words])

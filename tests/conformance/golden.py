"""The golden stores of real programs, put on any Env: for tests/conformance/foreign.py."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from engines.env import Env

__all__ = ["BOLT_FILES", "LEVELDB_STORES", "unpack"]

TESTS = Path(__file__).parents[1]
LEVELDB_STORES = sorted((TESTS / "lsm/golden").glob("*.tar.gz"))
BOLT_FILES = sorted((TESTS / "btree/golden").glob("*.db.gz"))


def unpack(golden: Path, env: Env, path: str) -> None:
    """Puts a golden file at `path`, or the files of a golden archive into a directory there."""
    if golden.name.endswith(".tar.gz"):
        env.makedirs(path, "test")
        with tarfile.open(golden) as archive:
            for member in archive.getmembers():
                if member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    _write(env, f"{path}/{Path(member.name).name}", content.read())
    else:
        _write(env, path, gzip.decompress(golden.read_bytes()))


def _write(env: Env, path: str, content: bytes) -> None:
    file = env.open(path, "w")
    file.append(content)
    file.sync("test")
    file.close()

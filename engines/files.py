"""What is done with a whole file in one call, on top of `Env`."""

from __future__ import annotations

from engines.env import Env

__all__ = ["read_whole"]


def read_whole(env: Env, path: str) -> bytes:
    """The content of the file at `path`. For small files: all of it is in memory. Raises OSError."""
    file = env.open(path, "r")
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()

"""Tells at once when an engine reaches for the disk past its Env, instead of after a run that shows nothing.

The simulated disk lives below a directory that the real one hasn't. Python's audit events say when anything of this
process is about to open, create, rename or remove a real file there: then PastEnv is raised in its place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["PastEnv", "only_through_env"]

_watched: list[str] = []  # directories; an audit hook can't be taken away again


class PastEnv(Exception):
    """An engine opened a real file where it was given a simulated disk."""


@contextmanager
def only_through_env(directory: str) -> Iterator[None]:
    """Within the block, real files below `directory` are refused."""
    if _look not in _installed:
        _installed.append(_look)
        sys.addaudithook(_look)
    _watched.append(directory)
    try:
        yield
    finally:
        _watched.remove(directory)


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if not _watched or not (event == "open" or event.startswith(("os.", "shutil.", "sqlite3."))):
        return
    for argument in arguments:
        if isinstance(argument, (str, bytes, os.PathLike)):
            path = os.fsdecode(argument)
            if any(path.startswith(directory) for directory in _watched):
                raise PastEnv(
                    f"the engine goes past its Env ({event} of {path}): every file is to be opened, listed, renamed and "
                    "removed by the `env` that the constructor is given, or else no test can cut the power"
                )


_installed: list[object] = []

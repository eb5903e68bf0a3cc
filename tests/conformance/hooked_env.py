"""The real disk with a hook before every sync, for the cases that need a sync to fail, to wait, or to be counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.env import File, Mode, RealEnv

__all__ = ["HookedEnv"]


class HookedEnv(RealEnv):
    """Calls `before_sync(site)` before each sync of a file or a directory; what it raises, the sync raises."""

    def __init__(self) -> None:
        super().__init__()
        self.before_sync: Callable[[str], None] = lambda site: None

    def open(self, path: str, mode: Mode) -> File:
        return _HookedFile(super().open(path, mode), self)  # type: ignore[return-value]

    def sync_dir(self, path: str, site: str) -> None:
        self.before_sync(site)
        super().sync_dir(path, site)


class _HookedFile:
    """A file whose `sync` asks first; all else goes straight to the file."""

    def __init__(self, file: File, env: HookedEnv) -> None:
        self._file = file
        self._env = env

    def sync(self, site: str) -> None:
        self._env.before_sync(site)
        self._file.sync(site)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

"""A store that fills each page with rubbish at the moment it becomes free: who still needs it reads rubbish."""

from __future__ import annotations

from typing import Any

from engines.btree import BTreeStore
from engines.btree.commit import Committer

__all__ = ["PoisoningStore"]

RUBBISH = b"\xdb"


class _PoisoningCommitter(Committer):
    """Overrides the seam that every freed page passes."""

    def free(self, ids: list[int]) -> None:
        super().free(ids)
        page_bytes = self.pager.page_bytes
        for pgid in ids:
            self.pager.writable[pgid * page_bytes : (pgid + 1) * page_bytes] = RUBBISH * page_bytes


class PoisoningStore(BTreeStore):
    """The engine, with the committer above, after opening and after each compaction."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        self._poison_freed_pages()

    def compact(self) -> None:
        super().compact()
        self._poison_freed_pages()

    def _poison_freed_pages(self) -> None:
        assert self._writer is not None
        self._writer.committer.__class__ = _PoisoningCommitter

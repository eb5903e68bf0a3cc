"""Whose a bolt file is: ours, or another program's (etcd's, containerd's, podman's), with buckets of its own.

Each can be opened with the option `bucket`, checked and dumped. But it is no store of ours, and nobody should take it
for one: opened without the option, it would seem to be empty.

Ours is a file whose root page has the checksum that our commits write (page.py), whatever its buckets are called; or one that has
our bucket, even if bbolt wrote it last; or one that has no bucket yet. What can't be told for damage is ours, so that the damage
is told.
"""

from __future__ import annotations

from engines.btree.meta import Meta
from engines.btree.options import DEFAULT_BUCKET
from engines.btree.page import BRANCH, HEADER_BYTES, LEAF, TRAILER_MAGIC, PageError, header, read_leaf, verify_trailer
from engines.btree.recovery import read_metas
from engines.env import File
from engines.errors import StoreError

__all__ = ["is_anothers"]


def is_anothers(file: File, path: str) -> bool:
    """True if the file is sound, as far as its root page shows, and another program's. O(1): three pages."""
    try:
        page_bytes, metas = read_metas(file, path)
        newest = max((meta for meta in metas if isinstance(meta, Meta)), key=lambda meta: meta.txid)
        place = newest.root * page_bytes
        _, flags, count, overflow = header.unpack(file.pread(HEADER_BYTES, place).ljust(HEADER_BYTES, b"\0"))
        size = (overflow + 1) * page_bytes
        if flags not in (LEAF, BRANCH) or place + size > file.size():
            return False
        run = file.pread(size, place)
        if flags == BRANCH:  # hundreds of buckets: ours has one
            return run[-8:-4] != TRAILER_MAGIC
        keys, _, used, _ = read_leaf(run, count)
        return verify_trailer(run, used) is None and bool(keys) and DEFAULT_BUCKET not in keys
    except (StoreError, PageError):
        return False

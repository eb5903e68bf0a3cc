"""Compaction: the whole database again, in a fresh file without free pages, which then takes the old one's name.

    my.db           the old file: readers go on in it, as long as they like, even when it has no name any more
    my.db.compact   the new one: locked, filled bottom-up, synced
    rename          and a sync of the directory: from here on it is my.db

A crash leaves the one or the other under the name, each whole; a leftover is removed by the next open. The lock on the new
file is taken before it has the name, so that nobody else can open it in between. It gets the old one's permissions, group
and owner, the owner if this process may give files away (root may). A symbolic link was resolved when the store was opened.

bbolt's files never shrink either, and its `bbolt compact` needs the database closed; this does it while readers read.
All buckets are copied, with whatever is nested in them; each page is full afterwards. Left out: other hard links to the
file, which keep the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from engines.btree.bulk import copy_tree
from engines.btree.freelist import Freelist
from engines.btree.meta import Meta
from engines.btree.pager import Pager, file_bytes
from engines.btree.recovery import parent_of
from engines.btree.tree import TreeWriter
from engines.env import Lock

__all__ = ["rewrite"]

FILL = 1.0


def rewrite(old: Pager, meta: Meta, new_pager: Callable[[Lock], Pager]) -> tuple[Pager, Meta]:
    """Writes what `meta` reaches to a new file with the old one's name; its pager and its meta. Raises OSError."""
    env, path = old.env, old.path
    temporary = path + ".compact"
    lock = env.lock(temporary, "flock")
    pager = new_pager(lock)
    try:
        file = env.open(temporary, "w")
        pager.file = file
        env.adopt(temporary, path)
        file.allocate(file_bytes(2, meta.page_bytes))
        pager.attach(file, writable=True)
        freelist = Freelist([], 2)
        writer = TreeWriter(pager, freelist, meta.txid + 1, FILL)
        root = copy_tree(old, meta.root, writer)
        at, pages = writer.allocate_freelist(0)
        writer.write_freelist(at, pages, 0, b"")
        file.truncate(freelist.high_water * meta.page_bytes)
        pager.attach(file, writable=True)  # again, because a mapping must not be longer than its file
        copied = Meta(meta.page_bytes, root, at, freelist.high_water, meta.txid + 1, meta.sequence, meta.flags)
        pager.write_meta(copied)
        pager.write_meta(copied._replace(txid=meta.txid))
        pager.sync("btree.compact.file")
        env.rename(temporary, path)
        pager.stats.fsyncs += 1
        env.sync_dir(parent_of(path), "btree.compact.name")
    except BaseException:
        pager.close()
        with suppress(OSError):
            env.unlink(temporary)
        raise
    return pager, copied

"""A backup: the file as of one commit, streamed, while the writer goes on.

    [meta][meta][page 2] ... [page high-water - 1][a freelist, if the commit has none]

The pages are copied as they lie in the file. Those that the commit doesn't reach may be half-written at that moment, and
are free in the copy. Both metas say the same, each in the page where it belongs; bbolt's backups say it twice, too, with
the newest one always in page 0.

Follows bbolt's Tx.WriteTo.
"""

from __future__ import annotations

from collections.abc import Iterator

from engines.btree.freelist import freelist_body
from engines.btree.meta import NO_FREELIST, Meta
from engines.btree.page import FREELIST, HEADER_BYTES, run_pages, with_trailer
from engines.btree.pager import Pager
from engines.btree.walk import free_ids

__all__ = ["backup"]

CHUNK_BYTES = 1 << 20


def backup(pager: Pager, meta: Meta) -> Iterator[bytes]:
    """The bytes of a database with what `meta` reaches, in pieces. Requires: the caller has pinned its tree."""
    page_bytes, view = meta.page_bytes, pager.map
    end = meta.high_water * page_bytes
    freelist = b""
    if meta.freelist == NO_FREELIST:
        ids = free_ids(pager, meta)
        pages = run_pages(HEADER_BYTES + 8 + 8 * len(ids), page_bytes)
        freelist, _ = with_trailer(meta.high_water, FREELIST, *freelist_body(ids), pages, page_bytes)
        meta = meta._replace(freelist=meta.high_water, high_water=meta.high_water + pages)
    newest = meta._replace(txid=max(meta.txid, 1))
    metas = {meta.page: meta.encode_page() for meta in (newest, newest._replace(txid=newest.txid - 1))}
    yield metas[0] + metas[1]
    for start in range(2 * page_bytes, end, CHUNK_BYTES):
        yield view[start : min(start + CHUNK_BYTES, end)]
    if freelist:
        yield freelist

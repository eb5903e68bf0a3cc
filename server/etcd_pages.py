"""How many keys the next page of an etcd's range has: pages of many keys, and of few where values are large.

An etcd answers a range whole, however large it is: 500 keys of 1.5 MiB each would be 750 MiB,
and a third more in JSON. So the first page is small, and each next one as large as the last one's values allow.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.v3 import rpc

__all__ = ["FIRST_PAGE_KEYS", "next_page_keys"]

FIRST_PAGE_KEYS = 32
PAGE_KEYS = 500
PAGE_BYTES = 4 << 20  # about


def next_page_keys(keys: int, found: Sequence[rpc.KeyValue]) -> int:
    """How many keys to ask for after a page for which `keys` were asked, and `found` came. O(found)."""
    size = sum(len(pair.value) for pair in found)
    return max(1, min(PAGE_KEYS, keys * 4 if size < PAGE_BYTES // 4 else keys * PAGE_BYTES // (size + 1)))

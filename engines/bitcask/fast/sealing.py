"""The hint of the active segment, from one walk through its headers. For Log.seal.

The keydir knows which records are live, so that no second table of the segment's keys is built:

    a value      counts if its key's place is exactly here; any other was overwritten or deleted further on
    a tombstone  counts if its key is absent, and no later tombstone of the key is here
    a mark       counts if it is the last record of the empty key, which a user of Riak may have used and deleted
"""

from __future__ import annotations

from engines.bitcask.hint import ENTRY, TOMBSTONE_BIT, encode_hint, key_of_entry
from engines.bitcask.log import Places
from engines.bitcask.place import SIZE_BITS, pack
from engines.bitcask.record import HEADER, HEADER_BYTES, TOMBSTONE, WINDOW_BYTES
from engines.bitcask.segment import ActiveSegment

__all__ = ["hint_of_active"]

HEAD_BYTES = HEADER_BYTES + 0xFFFF + len(TOMBSTONE)  # what is looked at of a record, at most


def hint_of_active(active: ActiveSegment, places: Places) -> bytes:
    """The bytes that hint_of(scan_entries(...)) has for the active segment. O(n log n).

    A record of 200,000 in random order 2.0 µs -> 1.1 µs, half of it the sort. What is held meanwhile are the hint's entries
    and their keys, some 160 bytes a record; the plain form holds a table and a list as well. Costs: checksums are not
    looked at, of what this process has just written.

    Requires: the writer's lock; the keydir's `places` have everything that was appended.
    """
    unpack, pack_entry = HEADER.unpack_from, ENTRY.pack
    base, get = pack(active.id, 0, 0), places.get
    live: list[bytes] = []
    dead: dict[bytes, bytes] = {}  # key → the entry of its tombstone, or of the last mark
    at, end = 0, active.end
    while at < end:
        start = at
        window = active.map[start : min(end, start + WINDOW_BYTES)]  # one copy for many records
        stop = end if start + len(window) == end else start + len(window) - HEAD_BYTES
        while at < stop:
            _, timestamp, key_size, value_size = unpack(window, at - start)
            key_at = at - start + HEADER_BYTES
            value_at = key_at + key_size
            key = window[key_at:value_at]
            size = HEADER_BYTES + key_size + value_size
            place = get(key)
            if place == base | at << SIZE_BITS | size and key_size:
                live.append(pack_entry(timestamp, key_size, size, at) + key)
            elif value_size >= 17 and window[value_at : value_at + 17] == TOMBSTONE:
                if place is None:
                    dead[key] = pack_entry(timestamp, key_size, size, at | TOMBSTONE_BIT) + key
            elif not key_size:  # a mark; or a user of Riak had a value there, and it is deleted
                dead[key] = pack_entry(timestamp, 0, size, at)
            at += size
    assert at == end, "what was written is not what is read"
    live.extend(dead.values())
    live.sort(key=key_of_entry)
    return encode_hint(live)

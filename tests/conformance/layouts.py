"""One content, and the ways a store can have come to it.

An engine reads from different places depending on what happened before: a memtable or a table, a dirty page or a
mapped one, the active segment or a merged one. So each test about reading runs once for each layout.
"""

from __future__ import annotations

from engines import KVStore

__all__ = ["ITEMS", "LAYOUTS", "arrange"]

# neighbours in the order of bytes, and every kind of key whose successor or prefix is easy to get wrong
ITEMS = {
    key: b"value of " + key
    for key in (
        b"\x00",
        b"\x00\xff",
        b"a",
        b"a\x00",
        b"a\xff",
        b"a\xff\xff",
        b"ab",
        b"b",
        b"b\x00",
        b"\xff",
        b"\xff\xff",
    )
}

LAYOUTS = ("written", "flushed", "compacted", "layered", "loaded")


def arrange(store: KVStore, items: dict[bytes, bytes], how: str) -> None:
    """Brings `store` to hold exactly `items`.

    "layered" leaves nothing where it is looked for first: old values, deleted keys and the keys' present values lie
    in different generations of files, pages or tables.
    """
    keys = list(items)
    if how == "loaded":
        store.load(sorted(items.items()))
        return
    if how == "layered":
        for key in [*keys, b"a\xfe", b"zz", b"\x01"]:
            store.put(key, b"an old value")
        store.flush()
        for key in [b"a\xfe", b"zz", b"\x01", *keys[::2]]:
            store.delete(key)
        store.flush()
        store.compact()
        for key in keys[::3]:
            store.put(key, b"not yet the last")
        store.flush()
    for key in reversed(keys):
        store.put(key, items[key])
    if how in ("flushed", "compacted"):
        store.flush()
    if how == "compacted":
        store.compact()

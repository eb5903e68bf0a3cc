"""What Hypothesis and chance draw from: keys that meet, values that fill buffers, bounds, batches."""

from __future__ import annotations

from hypothesis import strategies as st

from engines import WriteBatch
from engines.kvstore import Operation

__all__ = ["BOUNDS", "KEYS", "OPERATIONS", "SYNCS", "VALUES", "batch_of"]

# Few, so that operations meet; neighbours in order, prefixes of each other, and a long one that fills a block or page.
# (Not as long as keys may be: a failing history is printed. The contract's cases have those.)
POPULAR = [b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"ab", b"b", b"\x00", b"\xff", b"\xff\xff", b"k" * 700]

KEYS = st.sampled_from(POPULAR) | st.binary(min_size=1, max_size=3)
BOUNDS = st.sampled_from([b"", *POPULAR]) | st.binary(max_size=3)
# most are short, some fill a block or a buffer of the tiny options; a letter repeated is enough to tell them apart
VALUES = st.binary(max_size=4) | st.builds(
    lambda letter, size: letter * size, st.sampled_from([b"x", b"y", b"z"]), st.sampled_from([100, 1_000, 3_000])
)
OPERATIONS = st.lists(st.tuples(KEYS, VALUES | st.none()), max_size=8)
SYNCS = st.sampled_from([None, True, False])


def batch_of(operations: list[Operation]) -> WriteBatch:
    """The operations as a batch."""
    batch = WriteBatch()
    for key, value in operations:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch

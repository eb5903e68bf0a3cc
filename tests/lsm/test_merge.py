"""engines/lsm/merge.py: many sorted sources are one, and a reader sees the newest version that it may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engines.lsm.keys import Row
from engines.lsm.merge import merge, versions_by_key, visible

VERSIONS = st.dictionaries(st.tuples(st.binary(max_size=2), st.integers(1, 40)), st.none() | st.binary(max_size=1))


@given(VERSIONS, st.integers(0, 5), st.booleans())
def test_a_merge_has_every_row_in_order(
    versions: dict[tuple[bytes, int], bytes | None], sources: int, reverse: bool
) -> None:
    """merger.cc: whatever row is in whatever source."""
    rows = [Row.of(key, sequence, value) for (key, sequence), value in versions.items()]
    parts = [sorted(rows[at :: sources + 1], reverse=reverse) for at in range(sources + 1)]
    assert list(merge([iter(part) for part in parts], reverse)) == sorted(rows, reverse=reverse)


@given(VERSIONS, st.integers(0, 41), st.booleans())
def test_a_reader_sees_the_newest_version_of_each_key_that_is_not_above_its_sequence(
    versions: dict[tuple[bytes, int], bytes | None], moment: int, reverse: bool
) -> None:
    """db_iter.cc, in both directions; a tombstone is told as None."""
    expected = {key: value for (key, sequence), value in sorted(versions.items()) if sequence <= moment}
    rows = sorted((Row.of(key, at, value) for (key, at), value in versions.items()), reverse=reverse)
    assert list(visible(rows, moment)) == sorted(expected.items(), reverse=reverse)


def test_the_versions_of_a_key_come_together_and_the_newest_first() -> None:
    rows = sorted([Row.of(b"a", 1, b"1"), Row.of(b"b", 2, b"2"), Row.of(b"a", 3, None)])
    found = [(key, [row.sequence for row in versions]) for key, versions in versions_by_key(rows)]
    assert found == [(b"a", [3, 1]), (b"b", [2])]


def test_a_merge_reads_no_further_than_it_is_asked() -> None:
    """One row of each source, and one more of the source that gave one."""
    taken = []

    def source(name: bytes) -> object:
        for number in range(9):
            taken.append(name + b"%d" % number)
            yield Row.of(name + b"%d" % number, 1, b"")

    merged = merge([source(b"a"), source(b"b")])  # type: ignore[list-item]
    assert next(merged).key == b"a0"
    assert taken == [b"a0", b"b0"]

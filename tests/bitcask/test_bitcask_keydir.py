"""The keydir: places, keys in order, and what undo maps remember."""

from __future__ import annotations

from typing import Any

from engines.bitcask.hint import TOMBSTONE_BIT
from engines.bitcask.keydir import Keydir, Undo
from engines.bitcask.place import pack
from engines.bitcask.segment import Segment
from engines.simenv import SimEnv
from tests.bitcask.riak_files import open_sim


def test_a_view_remembers_the_first_place_of_each_key() -> None:
    keydir, first, second = Keydir(), Undo(), Undo()
    keydir.places.update({b"a": pack(1, 0, 16), b"b": pack(1, 16, 16)})
    keydir.apply({b"a": pack(2, 0, 16), b"c": pack(2, 16, 16)}, [first])
    keydir.apply({b"a": None, b"b": pack(2, 32, 16)}, [first, second])
    assert dict(first) == {b"a": pack(1, 0, 16), b"c": None, b"b": pack(1, 16, 16)}
    assert dict(second) == {b"a": pack(2, 0, 16), b"b": pack(1, 16, 16)}
    assert keydir.places == {b"b": pack(2, 32, 16), b"c": pack(2, 16, 16)}


def test_a_view_sees_no_later_value_while_its_note_is_dropped() -> None:
    """A reader without the lock has looked into the places, where a later value is, when that is deleted again."""
    with open_sim(SimEnv()) as store, store.snapshot() as snapshot:
        store.put(b"k", b"later")

        class Places(dict[bytes, Any]):
            def get(self, key: bytes, default: Any = None) -> Any:
                found = super().get(key, default)
                if key in self and not deleting:
                    deleting.append(key)
                    store.delete(key)
                return found

        deleting: list[bytes] = []
        store.core.keydir.places = Places(store.core.keydir.places)
        assert snapshot.get(b"k") is None
        assert deleting == [b"k"] and len(snapshot.moment.undo) == 0


def test_loading_a_segment_takes_the_live_bytes_of_what_it_replaces() -> None:
    """The later position wins; a tombstone removes the key."""
    keydir, segments = Keydir(), {1: Segment(1, 100), 2: Segment(2, 100)}
    keydir.load(segments[1], [(5, 20, 0, b"a"), (5, 30, 20, b"b"), (5, 50, 50, b"c")], segments)
    assert segments[1].live_bytes == 100
    keydir.load(segments[2], [(5, 40, 0, b"a"), (5, 36, 40 | TOMBSTONE_BIT, b"b")], segments)
    assert keydir.places == {b"a": pack(2, 0, 40), b"c": pack(1, 50, 50)}
    assert (segments[1].live_bytes, segments[2].live_bytes, segments[2].tombstone_bytes) == (50, 40, 36)

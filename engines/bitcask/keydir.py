"""The keydir: for every key, where its last value lies. The whole of it is in memory, which is Bitcask's bargain.

    places    {key: place}        place: file id, offset and size, packed into one int (engines.bitcask.place)

A get is one lookup here and one read of a file.

Order. A hash has none, so the keys in order are a second structure (engines.bitcask.order), made at the first scan and
kept from then on.

Snapshots. A snapshot has an *undo map*: before the writer gives a key another place, it notes the old one there, for
every open snapshot that has no note of this key yet. A snapshot's place of a key is its note if there is one, else the
keydir's.

    places  a→1.0 b→1.40       snapshot opened      put b, delete a
    places  b→2.0              its undo map         b→1.40 a→1.0         the snapshot sees  a→1.0 b→1.40

Invariants:

1. A key is in `places` if and only if it is live. (While a batch is applied, None may stand in place of a place.)
2. For an open snapshot S and any key k: k's place in S is S.undo[k] if k is in S.undo, else places[k].
3. A merge moves values without changing them, so it notes nothing: both places hold the same bytes.
4. All changes, and all looks at the order, are under the core's mutex. A single lookup needs no lock.

Follows section 2 of the Bitcask paper; the undo map is ours. Costs: apply O(keys * open snapshots), order O(log n) for
each changed key. Memory: some 140 bytes for a key of 16 bytes, whatever its value. Left out: Riak's expiry, and a keydir
shared by several processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from engines.bitcask.hint import TOMBSTONE_BIT, Entry
from engines.bitcask.order import KeyOrder
from engines.bitcask.place import SIZE_BITS, Place, pack, unpack
from engines.bitcask.segment import Segment

__all__ = ["NO_NOTE", "Changes", "Keydir", "Undo"]

NO_NOTE: Final[Place] = 0  # is no place, since ids begin at 1; and not None, which is the note of an absent key

Changes = Mapping[bytes, Place | None]  # key → its new place, None for a deletion


class Undo(dict[bytes, "Place | None"]):
    """What a snapshot remembers: key → the place it had when the snapshot was opened, None if it was absent."""

    __slots__ = ("__weakref__", "order")

    def __init__(self) -> None:
        self.order = KeyOrder()

    def note(self, key: bytes, place: Place | None) -> None:
        """Where the key was until now. The first note of a key stands."""
        if key not in self:
            self[key] = place
            if self.order.made:
                self.order.note(key)

    def forget(self, key: bytes) -> None:
        """Drops the note of a key that is absent now, if it was absent when the snapshot was opened.

        Else a queue that runs through the store would leave a note of each of its keys.
        """
        if self.get(key, NO_NOTE) is None:
            del self[key]
            if self.order.made:
                self.order.note(key)


class Keydir:
    """Key → place, and the keys' order. Written by one thread at a time, under the core's mutex."""

    __slots__ = ("order", "places")

    def __init__(self) -> None:
        self.places: dict[bytes, Any] = {}  # Any and not Place: mypy can't see that None stays within `apply`
        self.order = KeyOrder()

    def apply(self, changes: Changes, undo_maps: Collection[Undo]) -> None:
        """Gives all keys of `changes` their new places at one instant; a key whose new place is None goes.

        First every undo map notes where each of the keys has been until now, None if it was absent (`Undo.note`), and
        `_note_order` is told. Then the places change. Readers look at `places` without a lock, at any time, and must see
        all of a batch or nothing of it: `dict.update` is one step of the interpreter, because the keys are bytes, and to
        a reader None is as good as absent. So that comes first, and then the keys whose place is None are taken out; with
        each of them, every undo map forgets what needs no note any more (`Undo.forget`).

        Requires: the core's mutex. O(keys * open snapshots).
        """
        places = self.places
        for undo in undo_maps:
            for key in changes:
                undo.note(key, places.get(key))
        self._note_order(changes)
        places.update(changes)
        for key, place in changes.items():
            if place is None:
                del places[key]
                for undo in undo_maps:
                    undo.forget(key)

    def _note_order(self, changes: Changes) -> None:
        """If the keys' order has been made: tells it which keys are about to come or to go."""
        if self.order.made:
            for key, place in changes.items():
                if place is None or key not in self.places:
                    self.order.note(key)

    def lookup(self, undo: Undo, key: bytes) -> Place | None:
        """The key's place in a snapshot. Takes no lock."""
        while True:
            place: Place | None = self.places.get(key)
            noted = undo.get(key, NO_NOTE)
            if noted != NO_NOTE:
                return noted
            # The writer may have noted the key between the two looks: then the note is found. It may also have dropped
            # the note, because the key is absent again: then `place` is a later one, and is not there any more.
            if self.places.get(key) == place:
                return place

    def keys(
        self, undo: Undo, start: bytes, stop: bytes | None, count: int, *, after: bool, reverse: bool
    ) -> tuple[list[bytes], list[bytes]]:
        """The next keys of a scan, as of KeyOrder.take: live ones, and ones of which the undo map has notes."""
        live = self.order.take(self.places, start, stop, count, after=after, reverse=reverse)
        return live, undo.order.take(undo, start, stop, count, after=after, reverse=reverse) if undo else []

    def load(self, segment: Segment, entries: Iterable[Entry], segments: Mapping[int, Segment]) -> None:
        """Brings the keys of a segment in, over those of the older segments, which have been brought in before.

        `entries` are (timestamp, size, offset, key), each the last record of its key in the segment; an offset with
        TOMBSTONE_BIT set is that of a tombstone. A value gives its key the place pack(segment.id, offset, size), a
        tombstone takes the key away, and so the later segment wins. What timestamps say means nothing.

        Live bytes are the sizes of the records that have a place here: the segment's `live_bytes` grow by those of its
        values, and a place that a key loses takes its size from its own segment's, `segments[its file id]`. The
        segment's `tombstone_bytes` grow by the sizes of its tombstones. O(entries).
        """
        places, base = self.places, pack(segment.id, 0, 0)
        setdefault, pop = places.setdefault, places.pop
        live = tombstones = 0
        for _, size, offset, key in entries:
            if offset & TOMBSTONE_BIT:
                old = pop(key, None)
                tombstones += size
            else:
                place = base | offset << SIZE_BITS | size  # `pack`, without a call for each key
                live += size
                old = setdefault(key, place)
                if old is place:  # a new key, as most are: one lookup
                    continue
                places[key] = place
            if old is not None:
                home, _, old_size = unpack(old)
                segments[home].live_bytes -= old_size
        segment.live_bytes += live  # negative before, if a hint lists a key twice
        segment.tombstone_bytes += tombstones

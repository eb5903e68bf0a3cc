"""The bytes of Raft's data: golden, round trip, and nothing but `DecodeError` for anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft import ConfChange, ConfState, DecodeError, Entry, HardState, Message, Snapshot, SnapshotMetadata
from raft.raftpb import ENTRY_CONF_CHANGE, MSG_APP, MSG_SNAP

U64 = st.integers(0, 2**64 - 1)
IDS = st.lists(U64, max_size=4).map(tuple)
ENTRIES = st.builds(Entry, U64, U64, st.integers(0, 2), st.binary(max_size=40))
HARD_STATES = st.builds(HardState, U64, U64, U64)
CONF_STATES = st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans())
METADATA = st.builds(SnapshotMetadata, U64, U64, CONF_STATES)
SNAPSHOTS = st.builds(Snapshot, METADATA, st.binary(max_size=40))
CHANGES = st.builds(ConfChange, st.integers(0, 3), U64, st.binary(max_size=20))
MESSAGES = st.builds(
    Message,
    type=st.integers(0, 23),
    to=U64,
    from_=U64,
    term=U64,
    log_term=U64,
    index=U64,
    entries=st.lists(ENTRIES, max_size=4),
    commit=U64,
    snapshot=st.none() | SNAPSHOTS,
    reject=st.booleans(),
    reject_hint=U64,
    context=st.binary(max_size=20),
    vote=U64,
)
KINDS: list[Any] = [Entry, HardState, ConfState, SnapshotMetadata, Snapshot, ConfChange, Message]
VALUES: dict[Any, Any] = {
    Entry: ENTRIES,
    HardState: HARD_STATES,
    ConfState: CONF_STATES,
    SnapshotMetadata: METADATA,
    Snapshot: SNAPSHOTS,
    ConfChange: CHANGES,
    Message: MESSAGES,
}


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (Entry(2, 7, ENTRY_CONF_CHANGE, b"hi"), "01 0200000000000000 0700000000000000 6869"),
        (HardState(3, 1, 9), "0300000000000000 0100000000000000 0900000000000000"),
        (
            ConfState((1, 2), auto_leave=True),
            "01 02000000 00000000 00000000 00000000 0100000000000000 0200000000000000",
        ),
        (
            Snapshot(SnapshotMetadata(5, 2, ConfState((1,))), b"s"),
            "29000000 0500000000000000 0200000000000000 00 01000000 00000000 00000000 00000000 0100000000000000 73",
        ),
        (ConfChange(1, 4, b"u"), "01 0400000000000000 75"),
        (
            Message(MSG_APP, 2, 1, 3, 2, 6, [Entry(3, 7, data=b"x")], 5, reject=True, reject_hint=4, context=b"c"),
            "03 01 0200000000000000 0100000000000000 0300000000000000 0200000000000000 0600000000000000"
            "0500000000000000 0400000000000000 0000000000000000 01000000 01000000 63 12000000"
            "00 0300000000000000 0700000000000000 78",
        ),
    ],
)
def test_the_bytes_are_these(value: Any, golden: str) -> None:
    """The byte tables of raftpb.py: what is on disk and on the wire must not change unnoticed."""
    assert value.encode() == bytes.fromhex(golden)
    assert type(value).decode(bytes.fromhex(golden)) == value


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_what_is_encoded_is_decoded(kind: Any, data: st.DataObject) -> None:
    """Invariant 1."""
    value = data.draw(VALUES[kind])
    assert kind.decode(value.encode()) == value


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(kind: Any, data: bytes) -> None:
    """Invariant 2; and what is decoded has no second encoding."""
    try:
        value = kind.decode(data)
    except DecodeError as error:
        assert str(error)
    else:
        assert value.encode() == data


@given(message=MESSAGES, data=st.data())
def test_a_damaged_message_is_decoded_or_refused(message: Message, data: st.DataObject) -> None:
    """Nearly right bytes go deeper into the decoder than random ones."""
    encoded = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    try:
        value = Message.decode(cut)
    except DecodeError:
        return
    assert value.encode() == cut


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_longer_fixed_part_or_a_shorter_one_is_refused(kind: Any, data: st.DataObject) -> None:
    encoded = data.draw(VALUES[kind]).encode()
    minimum = {Entry: 17, HardState: 24, ConfState: 17, SnapshotMetadata: 33, Snapshot: 37, ConfChange: 9, Message: 74}
    with pytest.raises(DecodeError):
        kind.decode(encoded[: data.draw(st.integers(0, minimum[kind] - 1))])
    if kind in (HardState, ConfState, SnapshotMetadata):
        with pytest.raises(DecodeError):
            kind.decode(encoded + b"\x00")


def test_lengths_are_not_believed() -> None:
    """A frame of 74 bytes that announces 2**32 - 1 entries, or as many bytes of context, makes nothing of that size."""
    header = bytearray(Message(MSG_APP).encode())
    header[70:74] = b"\xff\xff\xff\xff"
    with pytest.raises(DecodeError, match="4294967295 entries"):
        Message.decode(bytes(header))
    header = bytearray(Message(MSG_APP).encode())
    header[66:70] = b"\xff\xff\xff\xff"
    with pytest.raises(DecodeError, match="4294967295 bytes of context"):
        Message.decode(bytes(header))
    with pytest.raises(DecodeError, match="ids"):
        ConfState.decode(b"\x00" + b"\xff" * 16)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (Entry, b"\x03" + bytes(16), "type is 0, 1 or 2"),
        (ConfState, b"\x02" + bytes(16), "auto_leave"),
        (ConfChange, b"\x04" + bytes(8), "type is 0 to 3"),
        (Message, b"\x18" + bytes(73), "type is 0 to 23"),
        (Message, b"\x00\x04" + bytes(72), "flags"),
        (Message, Message(MSG_SNAP).encode() + b"x", "followed by 1 more"),
        (Snapshot, b"\xff\xff\xff\xff", "length of metadata"),
    ],
)
def test_the_refusal_says_what_was_expected(kind: Any, data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        kind.decode(data)


def test_the_size_of_an_entry_is_that_of_its_bytes() -> None:
    """All limits of size count it, without encoding anything."""
    entry = Entry(1, 2, data=b"value")
    received = Entry.decode(bytes(entry.encode()))
    assert received.encode() == entry.encode()
    assert entry.size() == len(entry.encode())


def test_empty_states_know_it() -> None:
    assert HardState().is_empty()
    assert not HardState(0, 0, 1).is_empty()
    assert Snapshot(SnapshotMetadata(0, 0, ConfState((1, 2)))).is_empty()
    assert not Snapshot(SnapshotMetadata(1, 1)).is_empty()

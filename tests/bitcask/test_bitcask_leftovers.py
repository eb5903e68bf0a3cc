"""Data files with the execute bit for others, or setuid: removed if they are what a merge of Riak's has left, and the
content is elsewhere; else refused, and never deleted."""

from __future__ import annotations

import logging

import pytest

from engines import CorruptionError, ForeignFormat
from engines.bitcask.hint import encode_entry, encode_hint
from engines.bitcask.record import encode_record, encode_tombstone
from engines.bitcask.store import BitcaskStore
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file

A1, B1, A2 = (encode_record(5, *pair) for pair in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2")))
DELETE_A = encode_tombstone(6, b"a", 1)


def directory(*files: bytes, marked: tuple[int, ...], mode: int = 0o601) -> SimEnv:
    """Data files 1, 2, ... as Riak or a copy has left them."""
    env = SimEnv()
    for file_id, data in enumerate(files, 1):
        put_file(env, f"{file_id}.bitcask.data", data)
    for file_id in marked:
        env.poke(data_path(file_id), env.files()[data_path(file_id)], mode=mode)
    return env


@pytest.mark.parametrize("mode", [0o601, 0o755, 0o4600])
def test_what_a_merge_has_copied_is_removed_with_a_line_in_the_log(mode: int, caplog: pytest.LogCaptureFixture) -> None:
    """The inputs 1 and 2, their output 3; the hint of an input goes, too."""
    env = directory(A1 + B1, A2, A2 + B1, marked=(1, 2), mode=mode)
    put_file(env, "2.bitcask.hint", encode_hint([encode_entry(5, len(A2), 0, b"a")]))
    with caplog.at_level(logging.WARNING, "metcd.bitcask"):
        assert content(env, read_only=True) == {b"a": b"2", b"b": b"1"}
        assert data_path(1) in env.files() and not caplog.records, "a reader only removes nothing"
        assert content(env) == {b"a": b"2", b"b": b"1"}
    assert not {data_path(1), data_path(2), f"{PATH}/2.bitcask.hint"} & set(env.files())
    (line,) = caplog.messages
    assert "removed what a finished merge of Riak's had left, 1.bitcask.data" in line and PATH in line


@pytest.mark.parametrize(
    ("files", "marked", "expected"),
    [
        ((A1, DELETE_A, B1), (1, 2), {b"b": b"1"}),  # the deletion and what it deletes were merged
        ((A1 + DELETE_A, DELETE_A, B1), (2,), {b"b": b"1"}),  # Riak has moved the deletion to the old file
        ((A1, DELETE_A, B1), (1,), {b"b": b"1"}),
        ((A1, A2), (1,), {b"a": b"2"}),
    ],
)
def test_deletions_and_overwrites_are_leftovers_too(
    files: tuple[bytes, ...], marked: tuple[int, ...], expected: dict[bytes, bytes]
) -> None:
    """Whenever the files without the bit say the same as all."""
    env = directory(*files, marked=marked)
    assert content(env) == expected
    assert not {data_path(file_id) for file_id in marked} & set(env.files())
    assert content(env) == expected


LYING = encode_hint([encode_entry(5, len(A2), 0, b"a")])


@pytest.mark.parametrize(
    ("files", "marked", "hint", "why"),
    [
        ((A1, B1, A2), (1, 2, 3), None, "and no data file is without"),
        ((A1,), (1,), None, "and no data file is without"),
        ((DELETE_A, DELETE_A), (1, 2), None, "and no data file is without"),
        ((A1 + B1, A2), (1,), None, "they alone have the last value of b'b', in 1.bitcask.data"),
        ((A1, A2), (2,), None, "they alone have the last value of b'a', in 2.bitcask.data"),
        ((A1, DELETE_A, B1), (2,), None, "they alone have the last deletion of b'a', in 2.bitcask.data"),
        ((A1, bytes(len(A2))), (1,), LYING, "should replace theirs is damaged, in 2.bitcask.data"),
    ],
)
def test_what_is_nowhere_else_is_refused_and_stays(
    files: tuple[bytes, ...], marked: tuple[int, ...], hint: bytes | None, why: str
) -> None:
    """The sentence names the files, their modes, and what to do; for who only reads as for who writes."""
    env = directory(*files, marked=marked, mode=0o755)
    if hint is not None:
        put_file(env, "2.bitcask.hint", hint)
    before = env.files()
    for read_only in (True, False):
        with pytest.raises(ForeignFormat, match=why) as caught:
            open_sim(env, read_only=read_only)
        assert f"{marked[0]}.bitcask.data (mode 0755)" in str(caught.value)
        assert f"chmod u-s,o-x {PATH}/*.bitcask.data" in str(caught.value)
    assert {path: data for path, data in env.files().items() if "lock" not in path} == before
    for file_id in marked:
        env.poke(data_path(file_id), env.files()[data_path(file_id)], mode=0o644)
    if hint is None:
        assert content(env) == content(directory(*files, marked=())), "and it is what the sentence says"


def test_a_whole_store_of_ours_with_the_bit_on_all_files_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """`chmod -R 755`: every file stays, and their content is there when the bits are gone."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(30):
            store.put(b"key%d" % (number % 9), b"v" * number)
        expected = dict(store.scan())
    files = {path: data for path, data in env.files().items() if path.endswith((".data", ".hint"))}
    for path, data in files.items():
        env.poke(path, data, mode=0o755)
    with pytest.raises(ForeignFormat, match="and no data file is without"):
        open_sim(env)
    assert files.items() <= env.files().items() and not caplog.records
    for path, data in files.items():
        env.poke(path, data, mode=0o644)
    assert content(env) == expected


def test_a_torn_end_of_a_leftover_is_no_record() -> None:
    """A crash of Riak left it, before the merge."""
    env = directory(A1 + B1[:-1], A1, marked=(1,))
    put_file(env, "1.bitcask.hint", encode_entry(5, len(A1), 0, b"a"))
    assert content(env) == {b"a": b"1"}
    assert data_path(1) not in env.files()


def test_repair_says_the_same_of_sound_files_and_mends_damaged_ones() -> None:
    """Damage in a marked file would hide whether it may go; mended, it counts as data."""
    env = directory(A1, B1, A2, marked=(1, 2, 3))
    before = {path: data for path, data in env.files().items() if path.endswith("data")}
    with pytest.raises(ForeignFormat, match="and no data file is without"):
        BitcaskStore.repair(PATH, env)
    assert before.items() <= env.files().items()
    env = directory(A1[:-1] + b"?" + B1, A2, marked=(1,))
    with pytest.raises(CorruptionError, match=r"`metcd repair [^`]+`"):
        open_sim(env)
    (sentence,) = BitcaskStore.repair(PATH, env)
    assert "left out: bytes 0 to 16" in sentence
    assert content(env) == {b"a": b"2", b"b": b"1"}

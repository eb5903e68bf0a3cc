"""The intent file: which data files count while a load replaces them."""

from __future__ import annotations

import pytest

from engines import (
    CorruptionError,
)
from engines.bitcask.intent import finish_load, read_intent, redo_load, write_intent
from engines.bitcask.record import (
    encode_record,
)
from engines.bitcask.segment import Segment, SegmentTable
from engines.kvstore import Stats
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, data_path, open_sim, put_file


def test_a_damaged_intent_file_is_refused() -> None:
    """Whether the old or the new files count is what it says; guessing would mix two contents."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"v"))
    put_file(env, "bitcask.metcd.load", b"metcd load\nnew 7\nvoid 1\ncrc32 00000000\n")
    with pytest.raises(CorruptionError, match="the list of files that a load has written is damaged"):
        open_sim(env)


def test_what_was_written_is_read_until_the_void_files_are_gone() -> None:
    """Void files that a snapshot needs keep the intent file, or they would count again after a crash."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", b"")
    table = SegmentTable(env, PATH, Stats(), 10)
    table.live[1] = Segment(1)
    assert read_intent(env, PATH) == ([], [])
    write_intent(table, [8, 7], {1})
    assert read_intent(env, PATH) == ([7, 8], [1])
    table.void = {1}
    table.retire({1})
    finish_load(table)
    assert read_intent(env, PATH) == ([7, 8], [1])
    table.remove_retired(oldest_epoch=1)
    finish_load(table)
    assert read_intent(env, PATH) == ([], []) and env.files() == {}


def test_a_crash_after_the_list_is_made_up_for() -> None:
    """The new files get their names, the void ones go, and no id is used again."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", b"old")
    put_file(env, "7.bitcask.data.new", b"new")
    write_intent(SegmentTable(env, PATH, Stats(), 10), [7], [1, 9])
    table = SegmentTable(env, PATH, Stats(), 10)
    redo_load(table)
    assert env.files() == {data_path(7): b"new"} and table.next_id == 10

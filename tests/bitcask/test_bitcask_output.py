"""Outputs: nobody sees one until it is published."""

from __future__ import annotations

from engines.bitcask.hint import TOMBSTONE_BIT, decode_hint
from engines.bitcask.output import Output
from engines.bitcask.record import encode_record, encode_tombstone
from engines.bitcask.scan import scan_entries
from engines.bitcask.segment import SegmentTable
from engines.kvstore import Stats
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, data_path

RECORD, TOMBSTONE = encode_record(5, b"k", b"v"), encode_tombstone(5, b"dead", 1)


def new_output() -> tuple[SimEnv, SegmentTable, Output]:
    env = SimEnv()
    env.makedirs(PATH, "test")
    table = SegmentTable(env, PATH, Stats(), 10)
    output = Output(table, table.take_id())
    output.add(TOMBSTONE, 5, b"dead", tombstone=True)
    output.add(RECORD, 5, b"k")
    return env, table, output


def test_it_has_its_name_when_it_is_published() -> None:
    env, table, output = new_output()
    output.finish("test")
    assert list(env.files()) == [f"{data_path(1)}.new"] and not table.live
    output.publish()
    assert env.files() == {data_path(1): TOMBSTONE + RECORD}
    assert table.live == {1: output.segment}
    assert (output.segment.end, output.segment.tombstone_bytes) == (len(TOMBSTONE + RECORD), len(TOMBSTONE))


def test_its_hint_is_that_of_its_records() -> None:
    """As if the file had been read once more."""
    _, _, output = new_output()
    data = TOMBSTONE + RECORD
    assert sorted(decode_hint(output.hint())) == sorted(scan_entries(data, len(data), 1)[0])
    assert [offset for _, _, offset, _ in decode_hint(output.hint())] == [TOMBSTONE_BIT, len(TOMBSTONE)]


def test_what_is_discarded_leaves_no_file_and_what_is_published_stays() -> None:
    env, _, output = new_output()
    output.discard()
    assert env.files() == {}
    env, _, output = new_output()
    output.finish("test")
    output.publish()
    output.discard()
    assert list(env.files()) == [data_path(1)]

"""The rule that says from system calls whether a put was on the disk: on traces as strace prints them."""

from __future__ import annotations

import pytest

from bench.strace import MARK, Trace, parse

MARKED = f'7 openat(AT_FDCWD, "{MARK}", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)'
OPENED = '7 openat(AT_FDCWD, "/data/log", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 5</data/log>'
WRITTEN = '7 write(5</data/log>, ""..., 129)   = 129'
SYNCED = "7 fdatasync(5</data/log>)             = 0"


def traced(*puts: list[str], before: tuple[str, ...] = (OPENED,)) -> Trace:
    """The trace of a run with these puts."""
    lines = [*before]
    for put in puts:
        lines += [MARKED, *put]
    return parse([*lines, MARKED, "7 +++ killed by SIGKILL +++"], "/data")


def test_calls_are_counted_between_the_marks() -> None:
    trace = traced([WRITTEN, SYNCED], [WRITTEN, WRITTEN, SYNCED], before=(OPENED, WRITTEN, SYNCED))
    assert (len(trace.puts), trace.writes, trace.syncs) == (2, 3, 2)


def test_a_put_is_on_the_disk_if_a_sync_comes_after_what_it_wrote() -> None:
    assert traced([WRITTEN, SYNCED]).each_on_disk
    assert not traced([WRITTEN]).each_on_disk
    assert not traced([SYNCED, WRITTEN]).each_on_disk
    assert not traced([WRITTEN, SYNCED], [WRITTEN]).each_on_disk, "one put that isn't is enough"
    assert not traced().each_on_disk, "no put says nothing"


def test_a_file_that_is_never_synced_is_not_relied_on() -> None:
    """LevelDB's LOG is for people, and SQLite's shared memory is made anew after a crash."""
    told = '7 write(6</data/LOG>, ""..., 60)   = 60'
    assert traced([WRITTEN, SYNCED, told]).each_on_disk
    assert not traced([WRITTEN, SYNCED, told], [told, "7 fsync(6</data/LOG>) = 0"]).each_on_disk


def test_each_file_needs_a_sync_of_its_own() -> None:
    """A table that is synced doesn't make up for a log that isn't."""
    table = [WRITTEN.replace("5</data/log>", "6</data/table>"), SYNCED.replace("5</data/log>", "6</data/table>")]
    assert traced([WRITTEN, SYNCED, *table]).each_on_disk
    assert not traced([WRITTEN, SYNCED], [WRITTEN, *table]).each_on_disk


def test_a_put_through_a_mapping_makes_no_write() -> None:
    mapped = "7 mmap(NULL, 65536, PROT_READ|PROT_WRITE, MAP_SHARED, 5</data/log>, 0) = 0x7f0000010000"
    trace = traced([SYNCED], before=(OPENED, mapped))
    assert trace.mapped and trace.each_on_disk and trace.writes == 0
    assert not traced([SYNCED], before=(OPENED, mapped.replace("MAP_SHARED", "MAP_PRIVATE"))).mapped
    assert not traced([SYNCED], before=(OPENED, mapped.replace("/data/", "/lib/"))).mapped


def test_a_mapping_is_synced_by_its_address() -> None:
    """Synchronously, and the right one: MS_ASYNC only asks, and another mapping is another file."""
    mapped = "7 mmap(NULL, 65536, PROT_READ|PROT_WRITE, MAP_SHARED, 5</data/log>, 0) = 0x7f0000010000"
    sync = "7 msync(0x7f0000011000, 4096, MS_SYNC) = 0"
    assert traced([WRITTEN, sync], before=(OPENED, mapped)).each_on_disk
    assert not traced([WRITTEN, sync.replace("MS_SYNC", "MS_ASYNC")], before=(OPENED, mapped)).each_on_disk
    assert not traced([WRITTEN, sync.replace("0x7f0000011000", "0x7f0000020000")], before=(OPENED, mapped)).each_on_disk


@pytest.mark.parametrize("flag", ["O_DSYNC", "O_SYNC"])
def test_a_descriptor_may_sync_each_write(flag: str) -> None:
    """LMDB writes its meta page through one. The number is another file's after the next open."""
    opened = OPENED.replace("O_CREAT", f"O_CREAT|{flag}")
    assert traced([WRITTEN], before=(opened,)).each_on_disk
    assert not traced([WRITTEN], before=(opened, OPENED)).each_on_disk


def test_a_sync_of_everything_counts_and_one_of_a_range_does_not() -> None:
    assert traced([WRITTEN, "7 sync() = 0"]).each_on_disk
    assert not traced([WRITTEN, "7 sync() = 0", WRITTEN]).each_on_disk
    assert not traced([WRITTEN, "7 sync_file_range(5</data/log>, 0, 0, SYNC_FILE_RANGE_WRITE) = 0"]).each_on_disk


def test_what_is_not_the_stores_is_not_counted() -> None:
    elsewhere = SYNCED.replace("/data/log", "/database/log")
    trace = traced([WRITTEN, elsewhere, '7 write(1</dev/null>, ""..., 9) = 9'])
    assert (trace.writes, trace.syncs, trace.each_on_disk) == (1, 0, False)


def test_calls_that_fail_or_are_interrupted() -> None:
    """A call that another thread interrupts is printed twice, and counts once; one that failed did nothing."""
    trace = traced(
        [WRITTEN, "7 fdatasync(5</data/log> <unfinished ...>", "8 <... fdatasync resumed>) = 0"],
        [WRITTEN, "7 fdatasync(5</data/log>) = -1 EIO (Input/output error)"],
    )
    assert (trace.writes, trace.syncs) == (2, 1)
    assert not trace.each_on_disk


def test_a_copy_writes_its_second_file() -> None:
    copied = "7 copy_file_range(4</elsewhere/log>, NULL, 5</data/log>, NULL, 129, 0) = 129"
    assert traced([copied]).puts[0].done == [("write", "/data/log")]

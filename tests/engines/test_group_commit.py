"""engines/group_commit.py: who leads, who waits, what a group takes, and what its writers are told."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from engines.errors import InvalidValue, StoreFailed
from engines.group_commit import GroupCommit, Waiter
from engines.kvstore import WriteBatch

PATIENCE_S = 60.0


def batch_of(name: bytes, size_bytes: int = 1) -> WriteBatch:
    batch = WriteBatch()
    batch.put(name, b"")
    batch.size_bytes = size_bytes
    return batch


def names(group: list[Waiter]) -> list[bytes]:
    return [waiter.batch.operations[0][0] for waiter in group]


class Writers:
    """Threads that submit a batch each, one after the other; `told` is what each one's `submit` raised, or None."""

    def __init__(self, group_commit: GroupCommit, commit: Callable[[list[Waiter]], None]) -> None:
        self.group_commit = group_commit
        self.commit = commit
        self.told: dict[bytes, BaseException | None] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: bytes, sync: bool = False) -> None:
        """Returns when the batch is in the queue. Requires: the lock is held."""
        before = len(self.group_commit.waiting)
        thread = threading.Thread(target=self._submit, args=(name, sync), daemon=True)
        self._threads.append(thread)
        thread.start()
        pause = threading.Event()
        while len(self.group_commit.waiting) == before:
            pause.wait(0.001)

    def _submit(self, name: bytes, sync: bool) -> None:
        try:
            self.group_commit.submit(batch_of(name), sync, self.commit)
            self.told[name] = None
        except BaseException as failure:
            self.told[name] = failure

    def join(self) -> dict[bytes, BaseException | None]:
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a writer hangs"
        return self.told


def test_a_writer_alone_is_committed_at_once() -> None:
    groups: list[list[bytes]] = []
    group_commit = GroupCommit()
    for name in (b"a", b"b"):
        group_commit.submit(batch_of(name), True, lambda group: groups.append(names(group)))
    assert groups == [[b"a"], [b"b"]]
    assert not group_commit.waiting
    assert not group_commit.lock.locked()


def test_writers_who_wait_share_one_commit_in_the_order_in_which_they_came() -> None:
    """LevelDB's DBImpl::Write."""
    groups: list[list[bytes]] = []
    group_commit = GroupCommit()
    writers = Writers(group_commit, lambda group: groups.append(names(group)))
    with group_commit.lock:
        for name in (b"1", b"2", b"3"):
            writers.start(name)
    assert writers.join() == {b"1": None, b"2": None, b"3": None}
    assert groups == [[b"1", b"2", b"3"]]


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([100, 100, 100], 3),
        ([100, 131_072, 1], 2),
        ([100, 131_073, 1], 1),
        ([200_000, 400_000, 400_000], 3),
        ([200_000, 400_000, 400_000, 48_576], 4),
        ([200_000, 400_000, 400_000, 48_577], 3),
        ([5_000_000, 1], 1),
    ],
)
def test_a_group_has_a_size(sizes: list[int], taken: int) -> None:
    """db_impl.cc, BuildBatchGroup: a MiB; 128 KiB more than the leader has, if that is small."""
    group_commit = GroupCommit(max_bytes=1 << 20, small_bytes=1 << 17)
    group_commit.waiting.extend(Waiter(batch_of(b"%d" % size, size), False) for size in sizes)
    assert names(group_commit.take()) == [b"%d" % size for size in sizes[:taken]]
    assert len(group_commit.waiting) == len(sizes) - taken


def test_a_group_without_a_limit_takes_all_that_wait() -> None:
    group_commit = GroupCommit()
    group_commit.waiting.extend(Waiter(batch_of(b"k", 1 << 30), False) for _ in range(20))
    assert len(group_commit.take()) == 20


def test_a_leader_goes_on_until_its_own_batch_is_committed() -> None:
    """Its batch may be beyond what the first group takes: then it makes a second one."""
    groups: list[list[bytes]] = []
    group_commit = GroupCommit(max_bytes=10)
    first = Waiter(batch_of(b"first", 10), False)
    group_commit.waiting.append(first)
    group_commit.submit(batch_of(b"own", 10), False, lambda group: groups.append(names(group)))
    assert groups == [[b"first"], [b"own"]]
    assert first.done


def test_one_refused_batch_does_not_spoil_its_group() -> None:
    """Rule 3: nothing of the group was written, so each is tried alone, and only the refused one's writer is told."""
    groups: list[list[bytes]] = []
    refusal = InvalidValue("too long")

    def commit(group: list[Waiter]) -> None:
        groups.append(names(group))
        if b"bad" in names(group):
            raise refusal

    group_commit = GroupCommit()
    writers = Writers(group_commit, commit)
    with group_commit.lock:
        for name in (b"1", b"bad", b"2"):
            writers.start(name)
    assert writers.join() == {b"1": None, b"bad": refusal, b"2": None}
    assert groups == [[b"1", b"bad", b"2"], [b"1"], [b"bad"], [b"2"]]


def test_a_failure_of_the_disk_reaches_every_writer_of_the_group() -> None:
    failure = OSError(errno.EIO, "the disk fails")

    def commit(group: list[Waiter]) -> None:
        raise failure

    group_commit = GroupCommit()
    writers = Writers(group_commit, commit)
    with group_commit.lock:
        for name in (b"1", b"2", b"3"):
            writers.start(name)
    assert writers.join() == {b"1": failure, b"2": failure, b"3": failure}


@pytest.mark.parametrize("when", ["before", "among those committed alone"])
def test_writers_whose_leader_is_interrupted_are_told_that_the_outcome_is_unknown(when: str) -> None:
    """Rule 4: nobody is told that its batch was committed unless it was; and the lock and the queue are free."""

    def commit(group: list[Waiter]) -> None:
        if when == "among those committed alone" and (len(group) > 1 or names(group) == [b"1"]):
            raise InvalidValue("refused")
        raise KeyboardInterrupt

    group_commit = GroupCommit()
    writers = Writers(group_commit, commit)
    with group_commit.lock:
        for name in (b"1", b"2", b"3"):
            writers.start(name)
    told = writers.join()
    assert len(told) == 3
    assert sum(isinstance(failure, KeyboardInterrupt) for failure in told.values()) == 1
    others = [failure for name, failure in told.items() if not isinstance(failure, KeyboardInterrupt)]
    for failure in others:
        assert isinstance(failure, StoreFailed | InvalidValue)
    assert not group_commit.waiting
    assert not group_commit.lock.locked()


def test_a_writer_that_is_interrupted_while_it_waits_takes_its_batch_back() -> None:
    """Nobody may write what its caller believes to have failed before it began."""
    group_commit = GroupCommit()
    groups: list[list[bytes]] = []

    class InterruptedLock:
        """Ctrl-C comes while the writer waits for the lock."""

        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None: ...

    lock, group_commit.lock = group_commit.lock, InterruptedLock()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        group_commit.submit(batch_of(b"interrupted"), False, lambda group: groups.append(names(group)))
    group_commit.lock = lock
    group_commit.submit(batch_of(b"next"), False, lambda group: groups.append(names(group)))
    assert groups == [[b"next"]]


def test_sync_is_asked_for_by_the_group_as_a_whole() -> None:
    """What each waiter asks for is handed to the commit, which syncs if one of them does."""
    asked: list[list[bool]] = []
    group_commit = GroupCommit()
    writers = Writers(group_commit, lambda group: asked.append([waiter.sync for waiter in group]))
    with group_commit.lock:
        writers.start(b"1", sync=False)
        writers.start(b"2", sync=True)
    writers.join()
    assert asked == [[False, True]]


def test_in_a_forked_child_nobody_waits_for_threads_that_are_not_there() -> None:
    """The thread that led, and those that waited, are the parent's: the child has a lock and a queue of its own."""
    group_commit = GroupCommit()
    group_commit.lock.acquire()
    group_commit.waiting.append(Waiter(batch_of(b"the parent's"), False))
    group_commit.leave_to_parent()
    groups: list[list[bytes]] = []
    group_commit.submit(batch_of(b"the child's"), False, lambda group: groups.append(names(group)))
    assert groups == [[b"the child's"]]

"""The core: a read is verified, and a failure of the disk is final."""

from __future__ import annotations

import errno

import pytest

from engines import (
    CorruptionError,
    StoreFailed,
)
from engines.bitcask.store import BitcaskStore
from engines.faultenv import FaultEnv
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim


def test_a_value_that_was_damaged_behind_our_back_is_an_error_and_no_answer() -> None:
    """With a hint that is right, the record isn't read until it is asked for."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(9):
            store.put(b"key%d" % number, b"value")
    with open_sim(env) as store:
        data = env.files()[data_path(1)]
        env.poke(data_path(1), data[:20] + b"!" + data[21:])
        with pytest.raises(CorruptionError, match="fails its checksum") as caught:
            store.get(b"key0")
        assert (caught.value.path, caught.value.offset) == (data_path(1), 0)
        with pytest.raises(CorruptionError):
            list(store.scan())
        assert store.get(b"key1") == b"value", "the others are not affected"
        assert store.check() != []


def test_a_full_disk_is_an_error_and_space_makes_the_store_usable_again() -> None:
    """From whichever call on the space is gone: what was acknowledged is there, and goes on."""
    for number in range(1, 60):
        env = SimEnv()
        full = FaultEnv(env, number, errno.ENOSPC, forever=True)
        kept: dict[bytes, bytes] = {}
        asked: dict[bytes, bytes] = {}
        store = None
        try:
            store = BitcaskStore(PATH, env=full, max_file_size=300)
            for at in range(40):
                asked = {**kept, b"key%02d" % at: b"v" * 20}
                store.put(b"key%02d" % at, b"v" * 20)
                kept = asked
        except OSError as error:
            assert error.errno == errno.ENOSPC
        if store is not None and store.failure is not None:
            with pytest.raises(StoreFailed):
                store.put(b"more", b"")
            with pytest.raises(StoreFailed):
                store.get(b"key00")
            store.close()
        elif store is not None:
            full.fail_at = 1 << 60
            store.close()
        with open_sim(env) as again:
            assert dict(again.scan()) in (kept, asked)
            again.put(b"space", b"again")
            kept = dict(again.scan())
        assert content(env) == kept


def test_a_moment_counts_until_it_is_closed_or_dropped() -> None:
    """An undo map for each open snapshot of the present keydir, and none for others."""
    with open_sim(SimEnv()) as store:
        core = store.core
        first, second = core.new_moment(), core.new_moment()
        assert core.undo_maps() == [first.undo, second.undo]
        core.close_moment(first)
        assert core.open_moments() == [second]
        del second
        assert core.open_moments() == []
        third = core.new_moment()
        store.load([(b"k", b"v")])
        assert core.open_moments() == [third] and core.undo_maps() == [], "the load has made another keydir"


def test_what_makes_a_failure_final() -> None:
    """A failure of the disk and an interrupt; damage that was found doesn't."""
    for error, final in ((OSError("disk"), True), (KeyboardInterrupt(), True), (CorruptionError("f", 0, "x"), False)):
        store = open_sim(SimEnv())
        with pytest.raises(type(error)), store.core.poisoning():
            raise error
        assert (store.failure is not None) == final
        store.close()

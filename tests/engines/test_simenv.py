"""The simulated disk: it behaves like the real one while the power is on, and forgets what it may when it goes.

The numbered promises are those of engines/simdisk.py; "fsync(2)", "rename(2)" are the manual pages.
"""

from __future__ import annotations

import itertools
import random

import pytest

from engines.env import File
from engines.errors import StoreLocked
from engines.simenv import FIXED, RANDOM, SECTOR_BYTES, Call, Policy, SimEnv

POWER_CUTS = tuple(policy for policy in Policy if policy is not Policy.EVERYTHING)


def images(env: SimEnv, policy: Policy, count: int = 200) -> list[dict[str, bytes]]:
    """What the policy leaves, for many seeds."""
    return [env.crash(policy, random.Random(seed)).files() for seed in range(count)]


def contents(env: SimEnv, policy: Policy, path: str = "/f", count: int = 200) -> set[bytes | None]:
    """The contents of one file that the policy leaves; None where it is gone."""
    return {files.get(path) for files in images(env, policy, count)}


def durable_file(content: bytes = b"", path: str = "/f") -> tuple[SimEnv, File]:
    """A disk with one file, whose content and name are durable."""
    env = SimEnv()
    file = env.open(path, "x")
    file.append(content)
    file.sync("content")
    env.sync_dir("/", "name")
    return env, file


def subsets(parts: list[bytes]) -> set[bytes]:
    """What a file of these appended parts holds when any of them is missing; a gap is zeros."""
    found = set()
    for kept in itertools.product((True, False), repeat=len(parts)):
        whole = b"".join(part if keep else bytes(len(part)) for part, keep in zip(parts, kept))
        last = max((i + 1 for i, keep in enumerate(kept) if keep), default=0)
        found.add(whole[: sum(map(len, parts[:last]))])
    return found


# ---- what each policy leaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", Policy)
def test_what_was_synced_is_on_every_image(policy: Policy) -> None:
    """Promise 1."""
    env, file = durable_file(b"synced")
    file.append(b"not synced")
    env.open("/g", "x")
    assert all((content or b"").startswith(b"synced") for content in contents(env, policy))


@pytest.mark.parametrize("policy", Policy)
def test_a_settled_disk_has_one_image(policy: Policy) -> None:
    env, _ = durable_file(b"synced")
    assert env.is_durable()
    assert {env.crash(policy, random.Random(seed)).fingerprint() for seed in range(20)} == {env.fingerprint()}


def test_everything_keeps_all_of_it_and_keeps_it_pending() -> None:
    """kill -9 does nothing to the page cache; a power cut after it does."""
    env, file = durable_file(b"a")
    file.append(b"b")
    env.rename("/f", "/g")
    killed = env.crash(Policy.EVERYTHING, random.Random(0))
    assert killed.files() == {"/g": b"ab"} == env.files()
    assert killed.crash(Policy.NOTHING, random.Random(0)).files() == {"/f": b"a"}


def test_nothing_keeps_only_what_was_synced() -> None:
    env, file = durable_file(b"a")
    file.append(b"b")
    env.rename("/f", "/g")
    assert images(env, Policy.NOTHING, 5) == [{"/f": b"a"}] * 5


def test_data_and_names_are_lost_independently() -> None:
    env, file = durable_file(b"a")
    file.append(b"b")
    env.rename("/f", "/g")
    assert images(env, Policy.DATA_WITHOUT_NAMES, 5) == [{"/f": b"ab"}] * 5
    assert {tuple(files.items()) for files in images(env, Policy.NAMES_WITHOUT_DATA)} == {
        (("/g", b"a"),),
        (("/g", b"a\0"),),
    }


def test_syncing_a_file_does_not_sync_its_name() -> None:
    """fsync(2): "an explicit fsync() on a file descriptor for the directory is also needed"."""
    env = SimEnv()
    file = env.open("/f", "x")
    file.append(b"data")
    file.sync("content")
    assert contents(env, Policy.NOTHING) == {None}
    env.sync_dir("/", "name")
    assert contents(env, Policy.NOTHING) == {b"data"}


def test_syncing_a_directory_syncs_neither_contents_nor_the_directories_below() -> None:
    env = SimEnv()
    env.mkdir("/d")
    env.open("/d/f", "x").append(b"data")
    env.sync_dir("/", "root")
    image = env.crash(Policy.NOTHING, random.Random(0))
    assert image.is_dir("/d") and image.list("/d") == []
    env.sync_dir("/d", "d")
    assert contents(env, Policy.NOTHING, "/d/f") == {b""}


def test_a_directory_whose_name_is_lost_takes_everything_along() -> None:
    env = SimEnv()
    env.mkdir("/d")
    file = env.open("/d/f", "x")
    file.append(b"data")
    file.sync("content")
    env.sync_dir("/d", "name")
    assert images(env, Policy.NOTHING, 1) == [{}]


def test_prefix_leaves_exactly_the_prefixes() -> None:
    env, file = durable_file(b"0")
    for part in (b"a", b"b", b"c"):
        file.append(part)
    assert contents(env, Policy.PREFIX) == {b"0", b"0a", b"0ab", b"0abc"}


def test_prefix_leaves_the_first_operations_of_a_directory() -> None:
    env = SimEnv()
    for name in "abc":
        env.open(f"/{name}", "x")
    assert {tuple(files) for files in images(env, Policy.PREFIX)} == {(), ("/a",), ("/a", "/b"), ("/a", "/b", "/c")}


def test_reorder_leaves_exactly_the_subsets_of_the_writes() -> None:
    """Promise 2; etcd #6378 is a WAL whose two appends were reordered."""
    parts = [b"aa", b"bb", b"cc"]
    env, file = durable_file()
    for part in parts:
        file.append(part)
    assert contents(env, Policy.REORDER, count=500) == subsets(parts)


def test_reorder_leaves_exactly_the_subsets_of_the_names() -> None:
    env, _ = durable_file()
    env.open("/g", "x")
    env.unlink("/f")
    expected = {(), ("/f",), ("/f", "/g"), ("/g",)}
    assert {tuple(files) for files in images(env, Policy.REORDER)} == expected


def test_torn_leaves_exactly_the_subsets_of_the_sectors() -> None:
    """Promise 3: the parts of a write end where sectors of the file end, not where the write began."""
    env, file = durable_file(b"0" * 500)
    parts = [b"a" * 12, b"b" * SECTOR_BYTES, b"c" * 3]
    file.append(b"".join(parts))
    assert contents(env, Policy.TORN, count=500) == {b"0" * 500 + rest for rest in subsets(parts)}


def test_a_write_within_a_sector_is_not_torn() -> None:
    env, file = durable_file(b"0" * 600)
    file.pwrite(b"1" * 80, 515)
    assert contents(env, Policy.TORN) == {b"0" * 600, b"0" * 515 + b"1" * 80 + b"0" * 5}


def test_garbage_keeps_the_size_and_fills_what_is_lost_beyond_the_old_end() -> None:
    """LevelDB #251: the size reached the disk, and the content didn't."""
    env, file = durable_file(b"old")
    file.append(b"new")
    found = contents(env, Policy.GARBAGE)
    assert all(content is not None and len(content) == 6 and content.startswith(b"old") for content in found)
    assert {b"oldnew", b"old\0\0\0"} < found
    assert len(found) > 20, "noise is in it too"


def test_garbage_leaves_old_bytes_where_an_overwrite_is_lost() -> None:
    env, file = durable_file(b"old")
    file.pwrite(b"new", 0)
    assert contents(env, Policy.GARBAGE) == {b"old", b"new"}


def test_garbage_after_a_cut_does_not_bring_the_old_bytes_back() -> None:
    env, file = durable_file(b"older")
    file.truncate(2)
    file.append(b"new")
    assert all((content or b"")[:2] == b"ol" and len(content or b"") == 5 for content in contents(env, Policy.GARBAGE))


def test_truncate_and_allocate_are_pending_until_a_sync() -> None:
    env, file = durable_file(b"12345")
    file.truncate(2)
    assert contents(env, Policy.REORDER) == {b"12345", b"12"}
    file.sync("cut")
    assert contents(env, Policy.REORDER) == {b"12"}
    file.allocate(4)
    assert contents(env, Policy.REORDER) == {b"12", b"12\0\0"}


def test_beginning_an_existing_file_anew_is_pending_too() -> None:
    env, _ = durable_file(b"old")
    env.open("/f", "w")
    assert contents(env, Policy.NOTHING) == {b"old"}
    assert env.files() == {"/f": b""}


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POWER_CUTS)
def test_a_rename_is_done_or_not_done(policy: Policy) -> None:
    """Promise 4, rename(2): a process that looks for the new name finds the old file or the new one."""
    env, _ = durable_file(b"old", "/CURRENT")
    file = env.open("/tmp", "x")
    file.append(b"new")
    file.sync("content")
    env.sync_dir("/", "name")
    env.rename("/tmp", "/CURRENT")
    assert {tuple(files.items()) for files in images(env, policy)} <= {
        (("/CURRENT", b"old"), ("/tmp", b"new")),
        (("/CURRENT", b"new"),),
    }


def test_an_unlink_may_survive_the_rename_before_it() -> None:
    """Promise 2: "rename, unlink the old ones" without a sync in between can lose both."""
    env, _ = durable_file(b"old", "/old")
    file = env.open("/tmp", "x")
    file.append(b"new")
    file.sync("content")
    env.rename("/tmp", "/new")
    env.unlink("/old")
    assert {} in images(env, Policy.REORDER)
    assert {} not in images(env, Policy.PREFIX)


def test_a_rename_between_directories_is_two_operations() -> None:
    env = SimEnv()
    for directory in ("/a", "/b"):
        env.mkdir(directory)
    file = env.open("/a/f", "x")
    file.append(b"data")
    file.sync("content")
    for directory in ("/", "/a", "/b"):
        env.sync_dir(directory, "names")
    env.rename("/a/f", "/b/f")
    assert {tuple(files) for files in images(env, Policy.REORDER)} == {(), ("/a/f",), ("/b/f",), ("/a/f", "/b/f")}
    env.sync_dir("/b", "target first")
    assert () not in {tuple(files) for files in images(env, Policy.REORDER)}


def test_two_names_of_a_file_are_one_file_on_an_image_too() -> None:
    env, _ = durable_file(b"data")
    env.link("/f", "/g")
    env.sync_dir("/", "names")
    for policy in Policy:
        image = env.crash(policy, random.Random(0))
        image.open("/f", "r+").append(b"!")
        assert image.files() == {"/f": b"data!", "/g": b"data!"}


def test_an_unlinked_file_and_its_views_stay_usable() -> None:
    env, file = durable_file(b"data")
    view = file.view()
    env.unlink("/f")
    file.append(b"!")
    assert file.pread(10, 0) == b"data!" and view[:] == b"data"
    file.close()
    assert view[1:3] == b"at" and view[-1] == ord("a") and len(view) == 4


# ---- mappings -------------------------------------------------------------------------------------------------------


def test_a_write_through_a_mapping_is_a_pending_write() -> None:
    """Promise 6."""
    env, file = durable_file()
    file.allocate(2 * SECTOR_BYTES)
    file.sync("space")
    calls: list[Call] = []
    env.after_call = calls.append
    mapping = file.map()
    mapping[SECTOR_BYTES - 1 : SECTOR_BYTES + 1] = b"xy"
    assert [(call.kind, call.path) for call in calls] == [("map", "/f")]
    assert file.pread(2, SECTOR_BYTES - 1) == b"xy" == mapping[SECTOR_BYTES - 1 : SECTOR_BYTES + 1]
    pairs = {(content or b"")[SECTOR_BYTES - 1 : SECTOR_BYTES + 1] for content in contents(env, Policy.TORN)}
    assert pairs == {b"\0\0", b"x\0", b"\0y", b"xy"}
    file.sync("content")
    assert contents(env, Policy.NOTHING) == {file.pread(2 * SECTOR_BYTES, 0)}


def test_a_mapping_takes_no_write_of_another_size() -> None:
    _, file = durable_file(b"1234")
    mapping = file.map()
    with pytest.raises(IndexError):
        mapping[0:2] = b"123"
    assert mapping[:] == b"1234"


def test_what_has_been_cut_off_is_not_read_from_a_view() -> None:
    """On the real disk this is a SIGBUS, and the end of the process."""
    _, file = durable_file(b"1234")
    view, mapping = file.view(), file.map()
    file.truncate(2)
    assert view[:2] == b"12"
    with pytest.raises(AssertionError, match="SIGBUS"):
        view[1:3]
    with pytest.raises(AssertionError, match="SIGBUS"):
        mapping[3:4] = b"!"


# ---- calls, sites, locks, clocks ------------------------------------------------------------------------------------


def test_a_site_can_be_left_out() -> None:
    env = SimEnv(skip_sites={"wal"})
    file = env.open("/f", "x")
    file.append(b"a")
    file.sync("wal")
    env.sync_dir("/", "names")
    assert contents(env, Policy.NOTHING) == {b""}
    assert env.sites == {"wal", "names"} and env.calls == 4
    image = env.crash(Policy.NOTHING, random.Random(0))
    again = image.open("/f", "r+")
    again.append(b"b")
    again.sync("wal")
    assert contents(image, Policy.NOTHING) == {b""}, "it is left out on images, too"


def test_calls_are_numbered() -> None:
    calls: list[Call] = []
    env = SimEnv(after_call=calls.append)
    env.makedirs("/a/b", "mkdir")
    file = env.open("/a/b/f", "x")
    file.append(b"1")
    file.sync("wal")
    assert [call.number for call in calls] == list(range(1, len(calls) + 1))
    assert [call.kind for call in calls] == [
        "sync_dir",
        "mkdir",
        "sync_dir",
        "mkdir",
        "sync_dir",
        "create",
        "append",
        "sync",
    ]
    assert calls[-1] == Call(8, "sync", "/a/b/f", "wal")


def test_a_lock_excludes_this_process_and_others_and_ends_with_a_crash() -> None:
    env = SimEnv()
    lock = env.lock("/LOCK")
    for kind in ("posix", "flock"):
        with pytest.raises(StoreLocked, match="this process"):
            env.lock("/LOCK", kind, shared=True)
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    image.lock("/LOCK").close()
    image.lock_elsewhere("/LOCK", "process 4711")
    with pytest.raises(StoreLocked, match="process 4711"):
        image.lock("/LOCK")
    image.lock("/LOCK", "flock").close()
    lock.close()
    lock.close()
    env.lock_elsewhere("/LOCK", "process 4712", "flock", shared=True)
    env.lock("/LOCK", "flock", shared=True).close()
    with pytest.raises(StoreLocked, match="process 4712"):
        env.lock("/LOCK", "flock")


def test_both_kinds_of_lock_and_locks_that_are_shared() -> None:
    env = SimEnv()
    with pytest.raises(FileNotFoundError):
        env.lock("/LOCK", shared=True)
    env.lock_elsewhere("/LOCK", "process 4711", "flock")
    with pytest.raises(StoreLocked, match="process 4711"):
        env.lock("/LOCK", "both")
    env = SimEnv()
    env.lock("/LOCK").close()
    first, second = env.lock("/LOCK", shared=True), env.lock("/LOCK", shared=True)
    first.close()
    with pytest.raises(StoreLocked, match="this process"):
        env.lock("/LOCK")
    second.close()
    env.lock("/LOCK").close()


def test_a_crash_ends_the_process_and_not_time() -> None:
    env = SimEnv(seed=5)
    env.advance(3.5)
    image = env.crash(Policy.NOTHING, random.Random(0))
    assert image.now() == env.now() == 3.5 and image.unix_time() == env.unix_time()
    assert image.pid() != env.pid() and image.process_alive(image.pid()) and not image.process_alive(env.pid())
    assert env.rng.random() == SimEnv(seed=5).rng.random() != image.rng.random()


def test_an_image_and_its_disk_go_separate_ways() -> None:
    env, file = durable_file(b"data")
    file.append(b"?")
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    other = image.open("/f", "r+")
    other.append(b"!")
    other.sync("content")
    file.append(b".")
    image.unlink("/f")
    assert env.files() == {"/f": b"data?."} and image.files() == {}
    assert contents(env, Policy.NOTHING) == {b"data"}


def test_a_poked_byte_is_durable() -> None:
    env, file = durable_file(b"data")
    env.poke("/f", b"dat!", mode=0o4600)
    assert contents(env, Policy.NOTHING) == {b"dat!"} and file.pread(4, 0) == b"dat!" and env.mode("/f") == 0o4600


def test_fixed_and_random_policies_are_all_of_them() -> None:
    assert len(FIXED) == len(RANDOM) == 4 and {*FIXED, *RANDOM} == set(Policy)


def test_a_closed_file_is_refused_and_counted_as_closed() -> None:
    env, file = durable_file(b"data")
    assert env.open_files == 1
    file.close()
    file.close()
    assert env.open_files == 0
    for call in (
        lambda: file.pread(1, 0),
        lambda: file.append(b"x"),
        lambda: file.sync("content"),
        file.size,
        file.map,
    ):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()

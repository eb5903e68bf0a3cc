"""The contract's seventh point: reading changes nothing, and needs no right to change anything.

Every look (`engines.which`, opening with read_only=True and every call on it, `metcd check`, `dump` and `which`) at every
engine's stores: ours and other programs', closed, killed, torn and damaged. On the simulated disk no changing call is
made at all; on a real one contents, names, modes, owners and times stay as they are. Under strace: tests/interop.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
from engines import NoSuchStore, StoreLocked
from engines.env import real_env
from engines.simenv import Call, Policy, SimEnv
from tests.conformance.engine_table import Engine
from tests.conformance.foreign import FOREIGN, Scene
from tests.conformance.layouts import ITEMS, arrange
from tests.conformance.reading import every_look, picture, reads, refusing
from tests.crash.machine import SEED

PATH = "/dir/store"
REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.persistent, pytest.mark.read_only]


def written(engine: Engine) -> SimEnv:
    """A disk with a store in the middle of its life: settled data, and writes after it that nobody has settled."""
    env = SimEnv(SEED)
    env.makedirs("/dir", "test")
    store = engine.open(PATH, env=env)
    arrange(store, ITEMS, "layered")
    for number in range(300):
        store.put(b"number %03d" % (number % 120), b"%d" % number * 9, sync=number % 7 == 0)
    store.delete(b"number 007", sync=False)
    return env


def states(engine: Engine) -> Iterator[tuple[str, SimEnv]]:
    """The store killed, after power cuts of every kind, closed, and with a bit flipped in each of its files."""
    env = written(engine)
    yield "killed", env.crash(Policy.EVERYTHING, env.rng)
    for policy in Policy:
        for number in range(3):
            yield f"{policy.name} {number}", env.crash(policy, env.rng)
    closed = env.crash(Policy.EVERYTHING, env.rng)
    engine.open(PATH, env=closed).close()
    yield "closed", closed
    for path, content in closed.files().items():
        for offset in sorted({0, len(content) // 2, len(content) - 1} & set(range(len(content)))):
            damaged = closed.crash(Policy.EVERYTHING, env.rng)
            damaged.poke(path, content[:offset] + bytes((content[offset] ^ 1,)) + content[offset + 1 :])
            yield f"{path} with a bit flipped at {offset}", damaged
        if path != PATH:
            lost = closed.crash(Policy.EVERYTHING, env.rng)
            lost.unlink(path)
            yield f"{path} lost", lost


def scenes(engine: Engine) -> list[Scene]:
    return FOREIGN.get(engine.where, [])


def not_a_call(call: Call) -> None:
    pytest.fail(f"a look has changed something: {call.kind} {call.path}")


def test_a_look_makes_no_changing_call(engine: Engine) -> None:
    """On the simulated disk: SimEnv counts every call that changes anything, and there is none."""
    for what, env in states(engine):
        before, calls = env.fingerprint(), env.calls
        env.after_call = not_a_call
        told = list(every_look(PATH, engine.where, env, **engine.options))
        assert (env.fingerprint(), env.calls, env.open_files) == (before, calls, 0), (what, told)


def test_a_look_at_another_programs_store_makes_no_changing_call(engine: Engine) -> None:
    """The same for tests/conformance/foreign.py."""
    for scene in scenes(engine):
        env = SimEnv(SEED)
        env.makedirs("/dir", "test")
        scene.make(env, PATH)
        before, calls = env.fingerprint(), env.calls
        env.after_call = not_a_call
        told = list(every_look(PATH, engine.where, env, **scene.options))
        assert (env.fingerprint(), env.calls, env.open_files) == (before, calls, 0), (scene.name, told)


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def test_a_look_needs_no_right_to_write(engine: Engine, error: int) -> None:
    """A read-only medium, another user's files: nothing that needs the right is even tried, and all is read."""
    env = written(engine)
    killed = env.crash(Policy.EVERYTHING, env.rng)
    expected = list(every_look(PATH, engine.where, killed, **engine.options))
    medium, as_env = refusing(killed, error)
    assert list(every_look(PATH, engine.where, as_env, **engine.options)) == expected
    assert medium.refused == []


def materialise(env: SimEnv, root: Path) -> None:
    """The simulated disk's files on a real one, with modes that a look might be tempted to mend."""
    for path, content in env.files().items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o640)


def test_a_look_changes_nothing_on_a_real_disk(engine: Engine, tmp_path: Path) -> None:
    """Contents, names, modes, owners, the times of contents and of states."""
    for number, (what, env) in enumerate(states(engine)):
        root = tmp_path / str(number)
        materialise(env, root)
        before = picture(root)
        told = list(every_look(f"{root}{PATH}", engine.where, real_env(), **engine.options))
        assert picture(root) == before, (what, told)


def test_a_look_at_another_programs_store_changes_nothing_on_a_real_disk(engine: Engine, tmp_path: Path) -> None:
    """The same for tests/conformance/foreign.py."""
    for scene in scenes(engine):
        root = tmp_path / scene.name
        root.mkdir()
        scene.make(real_env(), str(root / "store"))
        before = picture(root)
        told = list(every_look(str(root / "store"), engine.where, real_env(), **scene.options))
        assert picture(root) == before, (scene.name, told)


AS_NOBODY = """
import os, sys
from engines.env import real_env
from tests.conformance.engine_table import engine_table
from tests.conformance.reading import every_look
(engine,), own, others = engine_table([sys.argv[1]]), sys.argv[2], sys.argv[3]
list(every_look(own, engine.where, real_env(), **engine.options))  # whatever is imported late is imported now
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(*every_look(others, engine.where, real_env(), **engine.options), sep="\\n")
"""


def test_another_users_store_is_read_without_the_right_to_write(engine: Engine) -> None:
    """In a process without privileges, which may read every file, and write none."""
    env = written(engine)
    killed = env.crash(Policy.EVERYTHING, env.rng)
    with tempfile.TemporaryDirectory(prefix="metcd-") as directory:
        root = Path(directory)
        for part in ("own", "others"):
            materialise(killed, root / part)
        for each in sorted((root / "others").rglob("*")):
            each.chmod(0o555 if each.is_dir() else 0o444)
        (root / "others").chmod(0o555)
        root.chmod(0o755)
        before = picture(root / "others") if os.getuid() == 0 else {}
        command = [sys.executable, "-c", AS_NOBODY, engine.where, f"{root}/own{PATH}", f"{root}/others{PATH}"]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        expected = list(every_look(f"{root}/own{PATH}", engine.where, real_env(), **engine.options))
        assert ran.stdout.replace("/others/", "/own/").splitlines() == expected
        assert before == (picture(root / "others") if os.getuid() == 0 else {})
        for each in (root / "others").rglob("*"):
            each.chmod(0o700)  # so that a user who isn't root can remove them
        (root / "others").chmod(0o700)


# ---- what is read, and beside whom ----------------------------------------------------------------------------------


def test_what_recovery_would_find_is_read(engine: Engine) -> None:
    """After a kill and after each kind of power cut: the same pairs, replayed in memory, as an opening for writing finds."""
    env = written(engine)
    for policy in Policy:
        image = env.crash(policy, env.rng)
        with engine.open(PATH, env=image, read_only=True) as store:
            found = dict(store.scan())
            assert store.check() == []
        with engine.open(PATH, env=image) as store:
            assert dict(store.scan()) == found


def test_reading_where_nothing_is_finds_no_store(engine: Engine) -> None:
    """NoSuchStore; nothing is made, a directory neither."""
    env = SimEnv(SEED)
    env.makedirs("/dir/empty", "test")
    calls = env.calls
    for path in ("/dir/nowhere", "/dir/empty", "/other/nowhere"):
        with pytest.raises(NoSuchStore, match=f"there is no store at {path}"):
            engine.open(path, env=env, read_only=True)
    assert env.calls == calls


def test_two_may_read_at_once_and_a_writer_neither_beside_them_nor_they_beside_it(
    engine: Engine, tmp_path: Path
) -> None:
    """A shared lock, counted within the process; closing one leaves the other its own."""
    path = tmp_path / "store"
    with engine.open(str(path), sync=False) as store:
        arrange(store, ITEMS, "layered")
        with pytest.raises(StoreLocked):
            engine.open(str(path), read_only=True)
    one, two = engine.open(str(path), read_only=True), engine.open(str(path), read_only=True)
    assert list(reads(one)) == list(reads(two))
    for reader in (one, two):
        with pytest.raises(StoreLocked):
            engine.open(str(path))
        assert dict(two.scan()) == ITEMS
        reader.close()
    with engine.open(str(path)) as store:
        assert dict(store.scan()) == ITEMS


def test_a_reader_and_a_writer_in_two_processes_keep_each_other_out(engine: Engine, tmp_path: Path) -> None:
    """The same lock between processes: two may read, and who writes is alone."""
    path = tmp_path / "store"
    with engine.open(str(path), sync=False) as store:
        store.put(b"a", b"1")
    script = """
import sys
from engines import StoreLocked
from tests.conformance.engine_table import engine_table
for read_only in (True, False):
    try:
        with engine_table([sys.argv[1]])[0].open(sys.argv[2], read_only=read_only) as store:
            print(store.get(b"a"))
    except StoreLocked as error:
        print("locked")
"""

    def elsewhere() -> list[str]:
        command = [sys.executable, "-c", script, engine.where, str(path)]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split()

    with engine.open(str(path)):
        assert elsewhere() == ["locked", "locked"]
    with engine.open(str(path), read_only=True):
        assert elsewhere() == ["b'1'", "locked"]
    assert elsewhere() == ["b'1'", "b'1'"]


def test_the_memory_engine_has_nothing_to_read(tmp_path: Path) -> None:
    """NoSuchStore always: none outlives its object."""
    engines.open(tmp_path / "store", "memory").close()
    with pytest.raises(NoSuchStore, match=f"there is no store at {tmp_path}/store"):
        engines.open(tmp_path / "store", "memory", read_only=True)

"""FORMAT.md against the engine: every byte that the page shows is made again and compared; and `metcd dump` beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import engines
from engines.env import real_env
from engines.lsm import store as lsm_store
from engines.lsm.dump import dump
from engines.simenv import SimEnv
from server import cli

PAGE = Path(lsm_store.__file__).with_name("FORMAT.md").read_text("utf-8")


def shown(name: str) -> bytes:
    """The bytes of a hex block of the page; its offsets are checked on the way."""
    block = re.search(rf"```hex {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None, f"FORMAT.md shows no {name}"
    found = b""
    for line in block[1].splitlines():
        match = re.match(r"([0-9a-f]{4})  ((?:[0-9a-f]{2}(?: {1,2}|$))+)", line)
        assert match is not None and int(match[1], 16) == len(found), line
        found += bytes.fromhex(match[2])
    return found


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The store of the page: the log as it was before the flush, and everything after it."""
    env = SimEnv(0)
    with engines.open("/db", "lsm", env=env, background=False) as store:
        store.put(b"apple", b"red")
        with store.batch() as batch:
            batch.put(b"apply", b"now")
            batch.delete(b"apple")
        store.put(b"later", b"1", sync=False)
        before = env.files()["/db/000003.log"]
        store.flush()
        return {"000003.log": before} | {path.rpartition("/")[2]: content for path, content in env.files().items()}


@pytest.mark.parametrize("name", ["MANIFEST-000002", "CURRENT", "000005.ldb"])
def test_the_page_shows_a_whole_file(files: dict[str, bytes], name: str) -> None:
    assert shown(name) == files[name]


def test_the_page_shows_the_log_up_to_its_zeros(files: dict[str, bytes]) -> None:
    """What follows is space that was allocated in advance."""
    begin = shown("000003.log")
    assert files["000003.log"].startswith(begin)
    assert not any(files["000003.log"][len(begin) :])


def test_every_file_of_the_engine_is_in_the_page() -> None:
    """The table of names says which module has which format; it must exist."""
    for name in re.findall(r"`(\w+\.py)`", PAGE):
        assert Path(lsm_store.__file__).with_name(name).exists(), name


# ---- metcd dump -----------------------------------------------------------------------------------------------------


def test_dump_of_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CURRENT, edits, levels, logs; of a store that is open, too."""
    with engines.open(str(tmp_path / "db"), "lsm", background=False) as store:
        store.put(b"apple", b"red")
        store.flush()
        store.delete(b"apple")
        assert cli.main(["dump", str(tmp_path / "db")]) == 0
    text = capsys.readouterr().out
    assert "CURRENT: MANIFEST-000002\n" in text
    assert "comparator leveldb.BytewiseComparator" in text
    assert "level 0: 1 tables" in text
    assert "'apple' @ 1 : val to 'apple' @ 1 : val" in text
    assert "sequence 2, 1 operations: del 'apple'" in text


def test_dump_of_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As leveldbutil prints entries: 'key' @ sequence : kind => 'value'."""
    with engines.open(str(tmp_path / "db"), "lsm", background=False) as store:
        store.put(b"apple", b"red")
        store.delete(b"b\xff")
        store.flush()
    expected = {"000005.ldb": "'apple' @ 1 : val => 'red'\n", "MANIFEST-000002": "level 0 gets 5", "000004.log": ""}
    for name, line in expected.items():
        assert cli.main(["dump", str(tmp_path / "db" / name)]) == 0
        assert line in capsys.readouterr().out
    lines = list(dump(str(tmp_path / "db" / "000005.ldb"), real_env()))
    assert "    'b\\xff' @ 2 : del" in lines


def test_dump_shows_damage_and_goes_on(tmp_path: Path) -> None:
    """One block is flipped: its neighbours are still shown."""
    with engines.open(str(tmp_path), "lsm", background=False, block_bytes=64) as store:
        for number in range(20):
            store.put(b"key%02d" % number, b"value" * 5)
        store.flush()
    table = tmp_path / "000005.ldb"
    content = bytearray(table.read_bytes())
    content[5] ^= 1
    table.write_bytes(content)
    lines = list(dump(str(table), real_env()))
    assert sum("DAMAGED" in line for line in lines) == 1
    assert sum("=> 'value" in line for line in lines) in range(15, 20)
    (tmp_path / "CURRENT").write_bytes(b"MANIFEST-000002")
    assert any("DAMAGED" in line for line in dump(str(tmp_path), real_env()))

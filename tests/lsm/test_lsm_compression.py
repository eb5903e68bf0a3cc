"""Compressed blocks of other programs, and what we write in their place."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import engines
from engines.coding import DecodeError, put_varint
from engines.errors import CorruptionError, ForeignFormat, InvalidOption
from engines.lsm import compression, snappy
from engines.lsm.compression import UnknownCompression, can_write, compress, decompress, name_of
from engines.lsm.dump import dump
from engines.lsm.repair import repair
from engines.lsm.sstable import add_trailer
from engines.lsm.store import LsmStore
from engines.simenv import SimEnv
from tests.lsm.hand_made import Directory

GOLDEN = Path(__file__).parent / "golden"
MADE = {b"key%03d" % at: b"value %d " % at * 8 for at in range(100) if at % 7}


def runs_only(data: bytes) -> bytes:
    """Snappy, as a compressor might make it that knows nothing but one literal byte and copies of it."""
    made = put_varint(len(data))
    at = 0
    while at < len(data):
        run = 1
        while at + run < len(data) and data[at + run] == data[at]:
            run += 1
        made += b"\x00" + data[at : at + 1]
        at, left = at + run, run - 1
        while left:
            length = min(left, 64)
            made += bytes((2 | (length - 1) << 2, 1, 0))
            left -= length
    return made


@pytest.fixture
def with_cramjam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of cramjam, installed or not."""
    double = SimpleNamespace(compress_raw=runs_only, decompress_raw=snappy.decompress_here)
    monkeypatch.setattr(snappy, "_FAST", double)


@pytest.fixture
def without_cramjam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snappy, "_FAST", None)


class Zstd:
    """A double of compression.zstd with its names: what follows a frame's first bytes is zlib's."""

    ZstdError = zlib.error

    @staticmethod
    def compress(data: bytes, level: int) -> bytes:
        assert level == 1
        return bytes.fromhex("28b52ffd") + zlib.compress(data)

    class ZstdDecompressor:
        def __init__(self) -> None:
            self._inner = zlib.decompressobj()

        @property
        def eof(self) -> bool:
            return self._inner.eof

        def decompress(self, data: bytes, max_length: int) -> bytes:
            return self._inner.decompress(data[4:], max_length)


@pytest.fixture
def with_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_zstd", lambda: Zstd)


def directory(kinds: dict[int, str | None]) -> tuple[Directory, dict[bytes, bytes]]:
    """Tables on levels, each of one compression; which keys they have overlaps. Their values shrink by each compression."""
    made, content = Directory(), {}
    for level, kind in kinds.items():
        rows = [(b"%d%02d" % (level % 2, at), 100 - 10 * level, b"%d" % level * 300) for at in range(20)]
        made.table(level, 10 + level, rows, compression=kind)
        content = {key: value for key, _, value in rows} | content
    made.manifest()
    return made, content


def kinds_of(store: LsmStore) -> set[str | None]:
    """The compression of each table."""
    return {store.core.tables.get(file).compression() for _, file in store.core.state.version.files()}


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["amulet-leveldb", "leveldb-zlib"])
def test_mojangs_stores_are_read(tmp_path: Path, name: str) -> None:
    """Made by the real programs: golden/README.md has the commands. Compaction keeps their compression."""
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    for options in ({"read_only": True}, {}, {"read_only": True}):
        with engines.open(tmp_path, "lsm", **options) as store:
            assert isinstance(store, LsmStore)
            assert dict(store.scan()) == MADE
            assert dict(store.scan(reverse=True)) == MADE
            assert all(store.get(key) == value for key, value in MADE.items())
            assert store.get(b"key007") is None
            assert store.check() == []
            assert "deflate" in kinds_of(store)
            if not options:
                assert store.describe()["compression"] == {"option": "keep", "written": "deflate", "found": "deflate"}
                store.compact()
                assert kinds_of(store) == {"deflate"}
                assert dict(store.scan()) == MADE
    (table,) = tmp_path.glob("*.ldb")
    assert any("bytes of deflate, " in line for line in engines.engine_class("lsm").dump(str(table), store.core.env))


@pytest.mark.usefixtures("with_zstd")
@pytest.mark.parametrize("name", ["zlib", "deflate", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_what_is_compressed_comes_back(name: str, size: int) -> None:
    """zlib and zstd have one number; the first bytes tell."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    made, kind = compress(data, name)
    assert kind == {"zlib": 2, "deflate": 4, "zstd": 2}[name]
    assert name_of(kind, made) == name
    assert decompress(kind, made) == data


@pytest.mark.parametrize("level", range(-1, 10))
def test_no_zlib_stream_looks_like_zstd(level: int) -> None:
    """RFC 1950: the first two bytes are a multiple of 31, and 28 b5 is none."""
    assert name_of(2, zlib.compress(b"data", level)) == "zlib"
    assert 0x28B5 % 31


@pytest.mark.usefixtures("with_zstd")
@pytest.mark.parametrize("name", ["zlib", "deflate", "zstd"])
def test_what_comes_out_is_bounded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A few bytes can stand for very many: not more than the limit is made of them."""
    made, kind = compress(bytes(5000), name)
    monkeypatch.setattr(compression, "LEAST_LIMIT", 5000)
    monkeypatch.setattr(compression, "RATIO", 1)
    assert decompress(kind, made) == bytes(5000)
    monkeypatch.setattr(compression, "LEAST_LIMIT", 4999)
    with pytest.raises(DecodeError, match="become more than 4,999, the most that is allowed"):
        decompress(kind, made)
    monkeypatch.setattr(compression, "RATIO", 64)
    data = bytes(5000) + bytes(range(256)) * 20
    assert decompress(kind, compress(data, name)[0]) == data, "a block that is large itself may become larger"


@pytest.mark.usefixtures("with_zstd")
@pytest.mark.parametrize("name", ["zlib", "deflate", "zstd"])
def test_a_stream_that_is_cut_or_garbled_is_damage(name: str) -> None:
    """CorruptionError in a table, as for snappy; never a part of the data."""
    made, kind = compress(bytes(range(256)) * 20, name)
    for cut in range(len(made)):
        with pytest.raises(DecodeError):
            decompress(kind, made[:cut])
    with pytest.raises(DecodeError):
        decompress(kind, made[:4] + b"\xff" * 20)


def test_a_damaged_stream_in_a_table_says_where() -> None:
    """With a checksum that is right: its writer compressed it wrongly."""
    made, _ = directory({2: None})
    path = "/db/000012.ldb"
    content = made.env.files()[path]
    size = next(size for size in range(len(content)) if add_trailer(content[:size], 0) == content[: size + 5])
    made.env.poke(path, add_trailer(content[:size], 4) + content[size + 5 :])
    damaged = pytest.raises(CorruptionError, match=r"000012\.ldb at byte 0: the block's compressed bytes are damaged: ")
    with made.open() as store, damaged:
        store.get(b"000")


def test_a_compression_that_nobody_knows_is_one_sentence() -> None:
    """The checksum is right, so that it is no damage."""
    with pytest.raises(UnknownCompression, match=r"has the compression 7, and 0 .none., 1 .snappy., 2 .zlib or zstd."):
        decompress(7, b"data")


def test_zstd_without_its_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of the block is told what to install; what is elsewhere can be read, and nothing is changed."""
    made, content = directory({1: None})
    monkeypatch.setattr(compression, "_zstd", lambda: Zstd)
    made.table(2, 18, [(b"z%d" % at, 90, b"v" * 300) for at in range(3)], compression="zstd")
    made.manifest()
    with made.open() as store:
        assert store.get(b"z1") == b"v" * 300
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    sentence = (
        r"^/db/000018\.ldb: the block at byte 0 is compressed with zstd, for which Python 3\.14 or the package "
        r"backports\.zstd is needed: pip install backports\.zstd$"
    )
    before = made.env.files()["/db/000018.ldb"]
    with made.open() as store:
        calls: list[Any] = [lambda: store.get(b"z1"), lambda: dict(store.scan()), store.check]
        for call in calls:
            with pytest.raises(ForeignFormat, match=sentence):
                call()
        assert store.get(b"100") == content[b"100"]
        assert any("pip install backports.zstd" in line for line in dump("/db/000018.ldb", made.env))
    assert made.env.files()["/db/000018.ldb"] == before


@pytest.mark.parametrize("options", [{"background": False}, {"background": True}])
def test_a_compaction_that_meets_it_stops_the_writes(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """As damage does (background.py, rule 3): the store is not poisoned, and reading goes on."""
    monkeypatch.setattr(compression, "_zstd", lambda: Zstd)
    made = Directory()
    for number in range(4):
        rows = [(b"k%d" % at, 10 * number + at + 1, b"v" * 300) for at in range(5)]
        made.table(0, 10 + number, rows, compression="zstd")
    made.table(0, 9, [(b"a", 90, b"plain")])
    made.manifest()
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    with engines.open("/db", "lsm", env=made.env, **options) as store:
        assert isinstance(store, LsmStore)
        for lane in list(store.background._running.values()):
            lane.join(60)
        with pytest.raises(ForeignFormat, match=r"pip install backports.zstd .found by a compaction: writing has"):
            store.put(b"k", b"v")
        assert store.get(b"a") == b"plain"


# ---- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("with_cramjam", "with_zstd")
@pytest.mark.parametrize("name", ["snappy", "zlib", "deflate", "zstd"])
@pytest.mark.parametrize("process", [False, True])
def test_a_store_keeps_its_compression(tmp_path: Path, name: str, process: bool) -> None:
    """Flush, compaction and load write what the deepest level has: the store doesn't grow because we compact it."""
    if process and name in ("snappy", "zstd"):
        name = "deflate"  # the doubles are not in the worker's process
    made, content = directory({3: name})
    for path, data in made.env.files().items():
        (tmp_path / path.rpartition("/")[2]).write_bytes(data)
    with engines.open(tmp_path, "lsm", background=process, compaction_process=process) as store:
        assert isinstance(store, LsmStore)
        assert kinds_of(store) == {name}
        before = store.stats().disk_bytes
        for number in range(20):
            content[b"1%02d" % number] = b"n" * 300
            store.put(b"1%02d" % number, b"n" * 300)
        store.flush()
        assert kinds_of(store) == {name}
        store.compact()
        assert kinds_of(store) == {name}
        assert store.stats().disk_bytes < 2 * before + 100_000 * process, "the worker's log is allocated"
        assert dict(store.scan()) == content
        store.load(sorted(content.items()))
        assert kinds_of(store) == {name}
        assert store.check() == []
        assert store.describe()["compression"] == {"option": "keep", "written": name, "found": name}


def test_a_repaired_store_keeps_its_compression() -> None:
    """What it writes anew is what it was: otherwise nothing would be left to keep."""
    made, content = directory({1: "deflate", 2: "deflate"})
    made.env.poke("/db/CURRENT", b"")
    repair("/db", env=made.env)
    with made.open() as store:
        assert dict(store.scan()) == content
        assert kinds_of(store) == {"deflate"}


@pytest.mark.usefixtures("with_cramjam")
@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        ({1: None, 2: None}, None),
        ({1: None, 2: "snappy"}, "snappy"),
        ({1: "snappy", 2: None}, "snappy"),
        ({1: "deflate", 2: "snappy"}, "snappy"),
    ],
)
def test_tables_of_several_compressions(levels: dict[int, str | None], wanted: str | None) -> None:
    """A compaction writes with that of its inputs, the deepest first; uncompressed only if all of them are."""
    made, content = directory(levels)
    with made.open() as store:
        assert kinds_of(store) == set(levels.values())
        store.put(b"000", b"in both levels' range")
        store.put(b"199", b"")
        store.compact()
        assert kinds_of(store) == {wanted}
        assert dict(store.scan()) == content | {b"000": b"in both levels' range", b"199": b""}


@pytest.mark.usefixtures("without_cramjam")
def test_without_cramjam_a_snappy_store_grows_and_says_so() -> None:
    """It is read as ever; describe() has the reason, and what to install."""
    made, content = directory({2: "deflate"})
    made.edit.added.clear()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(snappy, "_FAST", SimpleNamespace(compress_raw=runs_only))
        made.table(2, 12, [(key, 5, value) for key, value in content.items()], compression="snappy")
    made.manifest()
    assert not can_write("snappy")
    with made.open() as store:
        assert dict(store.scan()) == content
        assert store.describe()["compression"] == {
            "option": "keep",
            "written": None,
            "found": "snappy",
            "note": "the tables come with snappy, and are written uncompressed, so that the store grows as it is "
            "compacted: pip install cramjam",
        }
        store.put(b"000", b"new")
        store.compact()
        assert kinds_of(store) == {None}
        assert dict(store.scan()) == content | {b"000": b"new"}


@pytest.mark.usefixtures("with_cramjam")
def test_the_other_values_of_the_option() -> None:
    """None writes as it is whatever was there; "snappy" compresses new tables, too."""
    made, _ = directory({2: "deflate"})
    for choice in (None, "snappy"):
        with engines.open("/db", "lsm", env=made.env, background=False, compression=choice) as store:
            assert isinstance(store, LsmStore)
            store.put(b"000", b"n" * 300)
            store.compact()
            assert kinds_of(store) == {choice}
            assert store.describe()["compression"] == {"option": choice, "written": choice}


@pytest.mark.usefixtures("without_cramjam")
def test_snappy_cannot_be_asked_for_without_cramjam() -> None:
    with pytest.raises(InvalidOption, match="compression='snappy' needs the package cramjam: pip install cramjam"):
        engines.open("/db", "lsm", env=SimEnv(), compression="snappy")


def test_a_new_store_is_written_as_it_is() -> None:
    """There is nothing to keep: every LevelDB can read it."""
    with engines.open("/db", "lsm", env=SimEnv(), background=False) as store:
        assert isinstance(store, LsmStore)
        for number in range(3):
            store.put(b"k", b"v" * 1000 + b"%d" % number)
            store.flush()
        store.compact()
        assert kinds_of(store) == {None}


def test_a_table_that_cannot_be_read_is_no_reason_not_to_flush() -> None:
    """What is kept is a question of size; who reads the table says what is wrong with it."""
    made, _ = directory({2: "deflate"})
    made.env.poke("/db/000012.ldb", bytes(made.edit.added[0][1].size_bytes))
    with made.open() as store:
        store.put(b"a", b"1")
        store.flush()
        assert store.get(b"a") == b"1"
        with pytest.raises(CorruptionError):
            store.get(b"000")

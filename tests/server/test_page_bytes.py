"""server/page_bytes.py: what `metcd dump` prints, in pieces; and nothing of what lies elsewhere."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import engines
from server import inspect, page_bytes
from server.dump_pages import shortened
from server.errors import Overloaded
from server.request import BadRequest


@pytest.fixture(params=["lsm", "btree", "bitcask"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """(directory, engine) of a node, as far as its engine goes, with a store that stays open."""
    (tmp_path / "wal").mkdir()
    (tmp_path / "snap").mkdir()
    (tmp_path / "identity").write_text("secret")
    with engines.open(tmp_path / "engine", request.param, sync=False) as store:
        for number in range(400):
            store.put(b"%04d" % number, b"v" * 50)
        store.flush()
        yield str(tmp_path), request.param


def whole(directory: str, engine: str, name: str) -> list[str]:
    """All pieces of a file, one after the other, as a viewer follows them."""
    lines: list[str] = []
    for _ in range(1000):
        piece = page_bytes.piece(directory, engine, name, len(lines), "")
        assert len(piece.encode()) <= page_bytes.BYTES_MOST + 200 and piece.endswith("\n")
        lines += piece.splitlines()
        if not lines[-1].startswith("More follows: "):
            return lines
        assert lines[-1] == f"More follows: /_/bytes?file={name}&at={len(lines) - 1}"
        del lines[-1]
    raise AssertionError("it has no end")


def test_pieces_are_what_metcd_dump_prints(node: tuple[str, str]) -> None:
    """Each file of the list, while its store is open; the list has all files, and nothing beside the three folders."""
    directory, engine = node
    listed = page_bytes.file_list(directory)
    names = [name for name, _ in listed["files"]]
    assert listed["left_out"] == 0 and names
    assert all(size == os.path.getsize(f"{directory}/{name}") for name, size in listed["files"])
    compared = 0
    for name in names:
        dumped = [
            shortened(line) for line in engines.engine_class(engine).dump(f"{directory}/{name}", engines.env.real_env())
        ]
        if dumped:
            assert whole(directory, engine, name) == dumped
            compared += 1
        else:
            with pytest.raises(BadRequest, match="Nothing can be shown"):
                page_bytes.piece(directory, engine, name, 0, "")
    assert compared >= 1 and not any("identity" in name for name in names)


def test_a_place_is_found_by_how_its_line_begins(tmp_path: Path) -> None:
    with engines.open(tmp_path / "engine", "btree") as store:
        for number in range(300):
            store.put(b"%04d" % number, b"v" * 50)
        page = store.explain(b"0123")["steps"][-1]["page"]
        piece = page_bytes.piece(str(tmp_path), "btree", "engine", 0, f"page {page}:")
        assert piece.startswith(f"page {page}: leaf") and "b'0123'" in piece
        with pytest.raises(BadRequest, match="no line that begins with 'page 99999:'"):
            page_bytes.piece(str(tmp_path), "btree", "engine", 0, "page 99999:")
        with pytest.raises(BadRequest, match="no line 60,000"):
            page_bytes.piece(str(tmp_path), "btree", "engine", 60_000, "")


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "identity", "LOCK", "..", "engine/../identity", "engine/..", "./engine", "engine//a", "engine/a/b",
        "/etc/passwd", "engine\\..\\identity", "wal/\0", "wal/" + "a" * 300, "engine/link", "engine/fifo", "engine/sub",
        "engine/linked/a", "wal", "snap/../../etc/passwd", "ENGINE/a", "engine/nothing", "wal/\n",
    ],
)  # fmt: skip
def test_nothing_else_is_read(tmp_path: Path, name: str) -> None:
    """One sentence for each, and the file is never opened."""
    for folder in ("engine", "wal", "snap", "engine/sub"):
        (tmp_path / folder).mkdir()
    (tmp_path / "identity").write_text("secret")
    (tmp_path / "engine" / "link").symlink_to(tmp_path / "identity")
    (tmp_path / "engine" / "linked").symlink_to("/etc")
    os.mkfifo(tmp_path / "engine" / "fifo")
    with pytest.raises(BadRequest) as refused:
        page_bytes.piece(str(tmp_path), "lsm", name, 0, "")
    assert refused.value.status in (400, 404) and refused.value.sentence.endswith(".")
    assert page_bytes.file_list(str(tmp_path))["files"] == []


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "000001.log").write_bytes(b"")
    (tmp_path / "node" / "wal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadRequest, match="no regular file of the node's directory"):
        page_bytes.piece(str(tmp_path / "node"), "lsm", "wal/000001.log", 0, "")
    assert page_bytes.file_list(str(tmp_path / "node"))["files"] == []


def test_one_piece_is_read_at_a_time(node: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory, engine = node
    name = next(name for name, size in page_bytes.file_list(directory)["files"] if size > 100)
    began, go_on, pieces = threading.Event(), threading.Event(), []

    def slow(lines: object, *rest: object) -> str:
        began.set()
        assert go_on.wait(30)
        return "a piece\n"

    monkeypatch.setattr(page_bytes, "_piece", slow)
    thread = threading.Thread(target=lambda: pieces.append(page_bytes.piece(directory, engine, name, 0, "")))
    thread.start()
    assert began.wait(30)
    with pytest.raises(Overloaded, match="ask again"):
        page_bytes.piece(directory, engine, name, 0, "")
    go_on.set()
    thread.join()
    assert pieces == ["a piece\n"] and page_bytes.piece(directory, engine, name, 0, "") == "a piece\n"


def test_what_lies_too_far_into_a_file_is_said(node: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory, engine = node
    name = max(page_bytes.file_list(directory)["files"], key=lambda file: file[1])[0]
    monkeypatch.setattr(page_bytes, "READ_MOST", 10)
    assert "metcd dump shows all of" in page_bytes.piece(directory, engine, name, 0, "no such line")
    monkeypatch.setattr(page_bytes, "READ_S", -1.0)
    assert "It takes too long" in page_bytes.piece(directory, engine, name, 0, "")


def test_the_log_of_raft_is_shown(tmp_path: Path) -> None:
    """By `metcd dump`'s own rules for wal/ and snap/."""
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "a.wal").write_bytes(bytes(100))
    piece = page_bytes.piece(str(tmp_path), "lsm", "wal/a.wal", 0, "")
    assert piece.splitlines() == [shortened(line) for line in inspect.dump(str(tmp_path / "wal" / "a.wal"))]

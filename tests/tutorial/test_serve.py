"""`metcd learn serve` on a directory in which not everything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tutorial.learn import course
from tutorial.learn.course import Chapter, Owned
from tutorial.learn.errors import LearnError
from tutorial.learn.serve import engines_built, missing_told, serve


def place(*unwritten: str) -> Any:
    """A course directory of the real course in which these functions are still to be written."""
    loaded = course.load()
    assert set(unwritten) <= {owned.id for owned in loaded.owned.values()}

    def gaps(chapter: Chapter) -> list[Owned]:
        return [owned for owned in chapter.owns if owned.id in unwritten]

    return SimpleNamespace(course=loaded, gaps=gaps)


def first(folder: str) -> Owned:
    """The course's first function in a folder."""
    return next(owned for owned in course.load().owned.values() if owned.path.startswith(folder))


def test_with_everything_written_each_engine_runs() -> None:
    assert engines_built(place()) == (["lsm", "btree", "bitcask"], {})


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask"])
def test_an_engine_that_is_not_written_is_left_out_and_told(engine: str) -> None:
    """With the chapter that builds it."""
    owned = first(f"engines/{engine}/")
    built, missing = engines_built(place(owned.id))
    assert built == [other for other in ("lsm", "btree", "bitcask") if other != engine]
    [(told, chapter, title)] = missing_told(course.load(), missing)
    assert (told, chapter) == (engine, owned.chapter)
    assert title in {one.title for one in course.load().chapters}


@pytest.mark.parametrize("folder", ["raft/", "server/", "engines/log.py"])
def test_without_raft_the_store_or_what_all_engines_share_there_is_no_cluster(folder: str) -> None:
    owned = first(folder)
    with pytest.raises(LearnError, match=rf"{owned.name} of chapter {owned.chapter} is not written yet"):
        engines_built(place(owned.id))


def test_without_any_engine_there_is_no_cluster() -> None:
    unwritten = [first(f"engines/{engine}/").id for engine in ("lsm", "btree", "bitcask")]
    with pytest.raises(LearnError, match="--catch-up"):
        engines_built(place(*unwritten))


def test_the_nodes_run_what_is_built_and_their_page_is_told_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three nodes in any case."""
    told: list[list[str]] = []
    monkeypatch.setenv("METCD_MISSING", "")
    monkeypatch.setattr("server.cli.main", lambda words: told.append(words) or 0)
    assert serve(tmp_path, 4000, ["bitcask", "lsm"], [("btree", 11, "Pages")]) == 0
    assert told[0][2] == f"{tmp_path}:bitcask,lsm,bitcask"
    assert json.loads(os.environ["METCD_MISSING"]) == [["btree", 11, "Pages"]]

"""check(): every row of what can be wrong with a file is told, and what is legal is not."""

from __future__ import annotations

from pathlib import Path

import pytest

import engines
from engines import CorruptionError
from engines.btree import BTreeStore, check_file
from engines.env import real_env
from tests.btree.mutations import BBOLT_VERSIONS, LEGAL, MUTATIONS, Layout, make_database

FORMAT = Path(engines.__file__).parent / "btree" / "FORMAT.md"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return bytes(make_database(tmp_path_factory.mktemp("check") / "well.db").data)


def checked(database: bytes, path: Path) -> list[str]:
    path.write_bytes(database)
    return check_file(real_env(), str(path))


def test_a_well_made_file_has_no_problems(database: bytes, tmp_path: Path) -> None:
    """The file that the mutations start from."""
    assert checked(database, tmp_path / "db") == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_is_told(database: bytes, tmp_path: Path, name: str) -> None:
    """In a sentence; a caller who opens the file gets the same sentence from check(), or a CorruptionError."""
    file = Layout(database)
    MUTATIONS[name].damage(file)
    problems = checked(bytes(file.data), tmp_path / "db")
    assert problems, f"nobody notices that {name}"
    assert all(len(problem) > 20 for problem in problems)
    try:
        store = BTreeStore(str(tmp_path / "db"), read_only=True)
    except CorruptionError:
        return
    with store:
        assert store.check()


@pytest.mark.parametrize("name", LEGAL)
def test_what_is_legal_is_not_told(database: bytes, tmp_path: Path, name: str) -> None:
    """And such a file can be written to, and is OK afterwards."""
    file = Layout(database)
    LEGAL[name](file)
    assert checked(bytes(file.data), tmp_path / "db") == []
    with BTreeStore(str(tmp_path / "db"), sync=False) as store:
        before = dict(store.scan())
        keys = sorted(before)
        for key in keys[::5]:
            store.delete(key)
        for number in range(400):
            store.put(b"new %d" % number, b"v" * number)
        assert store.check() == []
        assert len(dict(store.scan())) == len(before) - len(keys[::5]) + 400


def test_the_table_in_format_md_is_true() -> None:
    """Row by row what the mutations say, a column for each version; tests/interop asks the bbolt that is installed."""
    lines = FORMAT.read_text("utf-8").splitlines()
    first = lines.index(f"| what is wrong | {' | '.join(BBOLT_VERSIONS)} |") + 2
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first : first + len(MUTATIONS)]]
    assert {name: tuple(told) for name, *told in rows} == {name: mutation.told for name, mutation in MUTATIONS.items()}
    assert lines[first + len(MUTATIONS)] == ""


def test_a_version_between_two_columns_is_like_the_one_before() -> None:
    """And an older or newer one like the first or the last."""
    key_twice = MUTATIONS["a key is there twice"]
    told = {version: key_twice.told_by(version) for version in ("1.3.1", "1.3.6", "1.3.10", "1.4.0", "1.10.0")}
    assert told == {"1.3.1": "no", "1.3.6": "no", "1.3.10": "yes", "1.4.0": "yes", "1.10.0": "yes"}


def test_problems_name_their_pages(database: bytes, tmp_path: Path) -> None:
    """The sentence says where: the page, the key, what was expected and what was found."""
    file = Layout(database)
    MUTATIONS["a live page is in the freelist"].damage(file)
    page = file.children[3]
    assert checked(bytes(file.data), tmp_path / "db") == [
        f"page {page} is in the freelist, and part of the run at page {page}"
    ]
    file = Layout(database)
    MUTATIONS["a byte of a value is flipped"].damage(file)
    (problem,) = checked(bytes(file.data), tmp_path / "db")
    assert problem.startswith(f"page {file.children[2]}: its checksum should be ")

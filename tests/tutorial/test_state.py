"""tutorial/learn/state.py and git.py: what a course directory remembers."""

from pathlib import Path

import pytest

from tutorial.learn import course, git, state
from tutorial.learn.errors import LearnError

COURSE = course.load()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    told = state.State(COURSE.version, started=[1, 2], green=[1], hints={"f": 2}, predictions={"1.1": "one"})
    state.save(tmp_path, told)
    assert state.load(tmp_path, COURSE) == told


def test_the_directory_is_found_from_any_folder_in_it(tmp_path: Path) -> None:
    state.save(tmp_path, state.State(COURSE.version))
    inner = tmp_path / "engines" / "lsm"
    inner.mkdir(parents=True)
    assert state.find(inner) == tmp_path


def test_another_directory_is_told_how_to_become_one(tmp_path: Path) -> None:
    with pytest.raises(LearnError, match=r"is no course directory.*metcd learn init"):
        state.find(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1, "colour": 3}', "{}"])
def test_a_damaged_state_says_how_to_get_it_back(tmp_path: Path, text: str) -> None:
    (tmp_path / ".course").mkdir()
    (tmp_path / ".course/state.json").write_text(text)
    with pytest.raises(LearnError, match="git checkout"):
        state.load(tmp_path, COURSE)


@pytest.mark.parametrize(("difference", "word"), [(-1, "older"), (1, "newer")])
def test_another_version_of_the_course_is_refused(tmp_path: Path, difference: int, word: str) -> None:
    state.save(tmp_path, state.State(COURSE.version + difference))
    with pytest.raises(LearnError, match=word):
        state.load(tmp_path, COURSE)


def test_a_commit_needs_no_settings_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    where = tmp_path / "mine"
    where.mkdir()
    git.init(where)
    (where / "a.py").write_text("1\n")
    assert git.commit(where, "one")
    assert not git.commit(where, "nothing changed")
    (where / "a.py").write_text("2\n")
    assert "-1\n+2\n" in git.diff(where)


def test_an_error_of_git_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LearnError, match=r"git diff in .* failed"):
        git.diff(tmp_path, "no-such-commit", "--")

"""tutorial/learn: what each command does, typed as a learner does, on a course of two small chapters."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raft.simulation.film.make import film_of
from raft.simulator import plan_of, run
from tests.tutorial.conftest import Learn
from tutorial.learn import check, git

ASKED = '    raise NotImplementedError("chapter 1 asks you to write put_varint")\n'
WRONG = """\
    out = bytearray()
    while value >= 128:
        out.append(value & 127)
        value >>= 7
    out.append(value)
    return bytes(out)
"""
RIGHT = WRONG.replace("value & 127", "value & 127 | 128")


RUN = check.run  # with pytest in a process of its own


def coding(tmp_path: Path) -> Path:
    return tmp_path / "mine/engines/coding.py"


def write(tmp_path: Path, body: str, before: str = ASKED) -> None:
    text = coding(tmp_path).read_text("utf-8")
    assert before in text
    coding(tmp_path).write_text(text.replace(before, body), "utf-8")


def commits(tmp_path: Path) -> list[str]:
    told = ["git", "-C", str(tmp_path / "mine"), "log", "--format=%s"]
    return subprocess.run(told, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture
def began(quick: None, learn: Learn) -> Learn:
    """Chapter 1 is begun."""
    assert learn("start", "1")[0] == 0
    return learn


# ---- init and start ---------------------------------------------------------------------------------------------------


def test_a_new_course_directory_has_the_packages_with_working_defaults(learn: Learn, tmp_path: Path) -> None:
    assert "return bytes([value % 128])" in coding(tmp_path).read_text("utf-8")
    assert commits(tmp_path) == ["The course, version 1: nothing is written yet"]


def test_init_changes_nothing_where_something_is(learn: Learn, tmp_path: Path) -> None:
    before = commits(tmp_path)
    status, told = learn("init", str(tmp_path / "mine"))
    assert (status, commits(tmp_path)) == (1, before)
    assert "is a course directory already; nothing was changed" in told


def test_a_command_outside_of_a_course_says_how_to_make_one(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, told = learn("check")
    assert status == 1
    assert "is no course directory" in told and "metcd learn init DIR" in told


def test_a_command_works_in_any_folder_of_the_course(
    began: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "mine/engines/lsm")
    assert began("status")[0] == 0


def test_start_asks_for_the_functions_and_shows_the_first_red_test(quick: None, learn: Learn, tmp_path: Path) -> None:
    status, told = learn("start", "1")
    assert status == 0
    assert "3 of 3 tests are red" in told and "chapter 1 asks you to write put_varint" in told
    assert ASKED in coding(tmp_path).read_text("utf-8")


def test_a_chapter_is_refused_while_earlier_ones_are_red(began: Learn) -> None:
    status, told = began("start", "2")
    assert status == 1
    assert "chapter 1 is not green yet" in told and "metcd learn start 2 --catch-up" in told


def test_catch_up_fills_in_what_is_not_written(quick: None, learn: Learn, tmp_path: Path) -> None:
    status, told = learn("start", "2", "--catch-up")
    assert status == 0
    assert "Chapter 1: 1 function from the reference." in told and "2 of 2 tests are red" in told
    assert "_ONE_BYTE[value]" in coding(tmp_path).read_text("utf-8")
    assert "from the reference" in learn("status")[1]


def test_catch_up_keeps_what_is_written_and_green(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, RIGHT)
    assert began("start", "2", "--catch-up")[0] == 0
    assert RIGHT in coding(tmp_path).read_text("utf-8")


def test_catch_up_replaces_what_is_wrong_and_has_committed_it_before(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    status, told = began("start", "2", "--catch-up")
    assert status == 0 and "was begun and is not green" in told
    assert WRONG not in coding(tmp_path).read_text("utf-8")
    assert WRONG in git.diff(tmp_path / "mine", "HEAD~2", "HEAD~1", "--", "engines/coding.py").replace("\n+", "\n")


def test_a_chapter_that_was_filled_in_is_emptied_by_its_own_start(quick: None, learn: Learn, tmp_path: Path) -> None:
    learn("start", "2", "--catch-up")
    assert learn("start", "1")[0] == 0
    assert ASKED in coding(tmp_path).read_text("utf-8")


def test_starting_again_changes_nothing_that_was_written(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    before = coding(tmp_path).read_text("utf-8")
    assert began("start", "1")[0] == 0
    assert coding(tmp_path).read_text("utf-8") == before


def test_a_renamed_function_is_named_and_start_brings_an_empty_one(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, "def put_number(", "def put_varint(")
    status, told = began("check")
    assert status == 1 and "has no put_varint" in told and "metcd learn start 1" in told
    assert "put_varint was not there" in began("start", "1")[1]
    text = coding(tmp_path).read_text("utf-8")
    assert ASKED in text and "def put_number(" in text


def test_start_says_that_nothing_is_written_only_while_that_is_so(began: Learn, tmp_path: Path) -> None:
    assert "nothing is written yet" in began("start", "1")[1]
    write(tmp_path, "return bytes([0])")
    assert "nothing is written yet" not in began("start", "1")[1]


def test_without_a_command_the_commands_are_shown(learn: Learn) -> None:
    status, told = learn()
    assert status == 2 and "begin a chapter" in told


def test_there_is_no_such_chapter(learn: Learn) -> None:
    assert learn("start", "7") == (1, "metcd learn: there is no chapter 7: they are 1, 2\n")


def test_a_directory_of_an_older_version_says_what_to_do(learn: Learn, tmp_path: Path) -> None:
    state = tmp_path / "mine/.course/state.json"
    state.write_text(state.read_text().replace('"version": 1', '"version": 0'))
    status, told = learn("status")
    assert status == 1 and "older version of the course" in told


# ---- check, trace, blame ----------------------------------------------------------------------------------------------


def test_a_red_check_names_what_is_to_be_written_and_how_to_repeat_it(began: Learn) -> None:
    status, told = began("check")
    assert status == 1
    assert "3 tests wait for what is to be written:\n  put_varint  (3)" in told
    assert told.endswith("metcd learn check 1 --test test_small_numbers_are_one_byte\n")


def test_a_failure_is_told_in_the_words_of_its_test_and_repeated_with_its_seed(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    status, told = began("check", "1", "--seed", "7")
    assert status == 1 and "300 is ac 02" in told and "2 of 3 tests are green" in told
    assert told.endswith("metcd learn check 1 --seed 7 --test test_large_numbers_are_several_bytes\n")


def test_one_test_is_run_again(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    assert began("check", "--test", "test_small_numbers_are_one_byte") == (
        0,
        "test_small_numbers_are_one_byte is green.\n",
    )
    assert began("check", "--test", "test_of_nothing")[0] == 1


def test_a_green_check_is_a_commit(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, RIGHT)
    status, told = began("check")
    assert status == 0 and "Chapter 1 is green: 3 of 3 tests." in told
    assert commits(tmp_path)[0] == "Chapter 1 is green: Varints"
    assert "Next: `metcd learn start 2`" in began("status")[1]


def test_a_green_chapter_that_was_broken_is_not_green_any_more(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, RIGHT)
    began("check")
    write(tmp_path, WRONG, RIGHT)
    assert "It was green before" in began("check")[1]
    assert "0 chapters green" in began("status")[1]
    assert "chapter 1 is not green yet" in began("start", "2")[1]


def test_a_syntax_error_is_one_sentence(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, "    return (\n")
    for command in ("check", "start 1", "blame", "diff", "hint", "show 1 --yes", "break 1", "serve"):
        status, told = began(*command.split())
        assert status == 1 and re.search(r"engines/coding.py:\d+: ", told) and "Python can't read the file" in told, (
            command
        )


def test_blame_names_the_function_that_is_wrong(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    began("check")
    status, told = began("blame")
    assert status == 0 and re.search(r"^  put_varint, engines/coding.py:\d+$", told, re.MULTILINE)
    assert "value & 127" not in told, "it must not show the solution"


def test_blame_has_nothing_to_say_of_what_is_not_written_or_green(began: Learn, tmp_path: Path) -> None:
    assert "still to be written: put_varint" in began("blame")[1]
    write(tmp_path, RIGHT)
    assert "no function is to blame" in began("blame")[1]


def test_blame_says_that_the_fault_lies_in_what_was_given(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, RIGHT)
    write(tmp_path, "_ONE_BYTE = [bytes([i, i]) for", "_ONE_BYTE = [bytes([i]) for")
    write(tmp_path, "    if value < 128:\n        return _ONE_BYTE[value]\n    out = ", "    out = ")
    began("check")
    told = began("blame")[1]
    assert "the fault lies outside of them" in told and "engines/coding.py was changed outside" in told
    assert "-_ONE_BYTE = [bytes([i]) for" in began("diff", "--given")[1]


def test_trace_shows_the_last_failure(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    began("check")
    status, told = began("trace")
    assert status == 0 and "300 is ac 02" in told and "metcd learn check 1" in told


def test_of_a_long_history_the_end_is_shown(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    began("check")
    kept = tmp_path / "mine/.course/last.json"
    last = json.loads(kept.read_text("utf-8"))
    last["failed"][0]["trace"] = "\n".join(f"line {number}" for number in range(1, 101))
    kept.write_text(json.dumps(last), "utf-8")
    shown = began("trace")[1]
    assert "(40 lines before these: metcd learn trace --full)\nline 41\n" in shown and "line 100\n" in shown
    assert "line 1\n" in began("trace", "--full")[1]


def test_a_failure_is_written_as_a_film(began: Learn, tmp_path: Path) -> None:
    """Of a run of Raft as it was recorded, of any other history its lines; without a history there is none."""
    write(tmp_path, WRONG)
    began("check")
    file, kept = tmp_path / "film.html", tmp_path / "mine/.course/last.json"
    last = json.loads(kept.read_text("utf-8"))

    def shown(**failure: str) -> dict[str, Any]:
        last["failed"] = [last["failed"][0] | failure]
        kept.write_text(json.dumps(last), "utf-8")
        status, told = began("trace", "--html", str(file))
        assert status == 0 and f"The film: {file}" in told, told
        [text] = re.findall(r'id="film">(.*?)</script>', file.read_text("utf-8"), re.DOTALL)
        data: dict[str, Any] = json.loads(text)
        return data

    plan = plan_of(3, "calm")
    recorded = json.loads(json.dumps(film_of(plan, run, title="replication, run 3")))
    data = shown(trace="   1  some lines", film=json.dumps(recorded))
    assert data == {**recorded, "title": last["failed"][0]["id"].partition("::")[2]}
    data = shown(trace="   1  put_varint(300)\n          found ac 82", film="")
    assert [moment[4] for moment in data["moments"]] == [[[0, "put_varint(300)"], [0, "found ac 82"]]]
    last["failed"] = [last["failed"][0] | {"trace": ""}]
    kept.write_text(json.dumps(last), "utf-8")
    status, told = began("trace", "--html", str(file))
    assert status == 1 and "writes no history down" in told


def test_without_a_check_there_is_nothing_to_trace(learn: Learn) -> None:
    assert learn("trace") == (1, "metcd learn: no check was run here yet: `metcd learn check` first\n")


# ---- hints, solutions, predictions, the museum ------------------------------------------------------------------------


def test_hints_come_one_by_one_and_end_at_the_solution(began: Learn) -> None:
    told = [began("hint")[1] for _ in range(4)]
    assert ["Seven bits" in told[0], "The low ones" in told[1], "A loop" in told[2], "A loop" in told[3]] == [True] * 4
    assert "metcd learn show 1 put_varint" in told[2]


def test_a_solution_is_asked_for_once(began: Learn) -> None:
    assert "Not shown" in began("show", "1", answers=["n"])[1]
    assert "value & 127 | 128" in began("show", "1", answers=["y"])[1]
    assert "value & 127 | 128" in began("show", "1", "put_varint")[1]


def test_taking_a_solution_commits_what_was_there(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, WRONG)
    assert began("show", "1", "put_varint", "--apply", "--yes")[0] == 0
    assert WRONG not in coding(tmp_path).read_text("utf-8")
    assert "What there was before put_varint was taken from the reference" in commits(tmp_path)
    assert began("check")[0] == 0


def test_diff_shows_what_was_written(began: Learn, tmp_path: Path) -> None:
    assert "Nothing of chapter 1 is written yet" in began("diff")[1]
    write(tmp_path, RIGHT)
    assert "+    out = bytearray()" in began("diff")[1]


def test_predictions_are_kept_and_marked_when_the_chapter_is_green(began: Learn, tmp_path: Path) -> None:
    told = began("predict", "1", answers=["1", "ten", "10"])[1]
    assert (
        "'ten' is not a number" in told and "marked when chapter 1 is green" in told and "It has nine bits" not in told
    )
    assert commits(tmp_path)[0] == "Chapter 1: 2 predictions"
    write(tmp_path, RIGHT)
    told = began("check")[1]
    assert "You said one. It is two." in told and "It has nine bits." in told and "You said 10: right." in told


def test_predictions_can_be_read_where_nobody_answers(began: Learn) -> None:
    status, told = began("predict", "1")
    assert status == 0 and "How many bytes has 300?" in told and "  2  two" in told and "--answer" in told
    assert "Kept." in began("predict", "1", "--answer", "two")[1]


def test_a_planted_bug_is_guessed_run_and_told(began: Learn, tmp_path: Path) -> None:
    write(tmp_path, RIGHT)
    mine = coding(tmp_path).read_text("utf-8")
    status, told = began("break", "1", "--guess", "test_the_largest_number_has_ten_bytes")
    assert status == 0 and "You guessed one of them." in told and "Nobody knows where the number ends." in told
    assert "+        break" in told and told.endswith("Next: metcd learn break 1 no-fast-case\n")
    assert coding(tmp_path).read_text("utf-8") == mine


def test_a_bug_is_not_shown_before_the_chapter_is_written(began: Learn) -> None:
    status, told = began("break", "1", "no-fast-case")
    assert status == 1 and "put_varint is not written yet" in told
    assert "1 test is red" in began("break", "1", "no-fast-case", "--anyway", answers=["2"])[1]


# ---- with processes ---------------------------------------------------------------------------------------------------


def test_a_check_runs_the_tests_on_the_learners_files(learn: Learn, tmp_path: Path) -> None:
    """init, a red start and a green check, with pytest in a process of its own."""
    assert "3 of 3 tests are red" in learn("start", "1")[1]
    write(tmp_path, RIGHT)
    assert learn("check")[0] == 0


def test_a_file_that_cannot_be_imported_is_named(
    quick: None, learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn("start", "1")
    monkeypatch.setattr(check, "run", RUN)
    with (tmp_path / "mine/engines/kvstore.py").open("a") as file:
        file.write("x = no_such_name\n")
    status, told = learn("check")
    assert status == 1
    assert re.match(r"metcd learn: engines/kvstore.py:\d+: NameError: name 'no_such_name' is not defined", told)


def test_an_endless_loop_is_stopped_and_named(
    quick: None, learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn("start", "1")
    monkeypatch.setattr(check, "run", RUN)
    monkeypatch.setattr(check, "TIME_LIMIT_S", 1)
    write(tmp_path, "    while True:\n        value += 1\n")
    status, told = learn("check")
    assert status == 1
    assert (
        "red: test_small_numbers_are_one_byte\n  it took more than 1 s and was stopped in put_varint, engines/" in told
    )
    assert "only 1 came to an end" in told, "each of the others would take as long"


def test_a_command_runs_on_the_learners_packages(learn: Learn, tmp_path: Path) -> None:
    program = "import engines, os; print(engines.__file__, os.environ['METCD_PLAIN'], file=open('out', 'w'))"
    assert learn("run", "python", "-c", program)[0] == 0
    assert (tmp_path / "mine/out").read_text() == f"{tmp_path / 'mine/engines/__init__.py'} 1\n"
    assert learn("run")[0] == 1
    assert learn("run", "no-such-command") == (1, "metcd learn: there is no command no-such-command\n")


def test_a_cluster_is_not_started_on_what_is_not_written(learn: Learn) -> None:
    status, told = learn("serve")
    assert status == 1 and "put_slice of chapter 2 is not written yet" in told and "--catch-up" in told


def test_metcd_hands_the_verb_learn_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The words after it are the tutorial's; where the tutorial isn't installed, as with a wheel, it says so."""
    from server import __main__ as command

    monkeypatch.setattr("sys.argv", ["metcd", "learn", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command.main()
    assert "usage: metcd learn" in capsys.readouterr().out
    monkeypatch.setitem(command.ELSEWHERE, "learn", "no_such_package.cli")
    assert command.main() == 2
    assert "the package no_such_package is not installed" in capsys.readouterr().err

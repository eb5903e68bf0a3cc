"""`metcd bench`: from the command line to the document, through real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report, run
from bench.results import Results
from server import cli
from server.verbs.bench import read_results

BROKEN = Path(__file__).parent / "broken_engines.py"


def test_two_subjects_are_measured_in_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine of ours and a peer that every Python has: each in a fresh process for each repetition."""
    file = tmp_path / "results.json"
    monkeypatch.setattr(run, "busy", lambda: "this machine is busy")
    words = ["fillrandom", "readrandom", "--engine", "bitcask", "--peer", "sqlite3", "--keys", "500"]
    assert cli.main(["bench", *words, "--repetitions", "2", "--no-durability", "--json", str(file)]) == 0
    assert "readrandom, 500 keys" in capsys.readouterr().out
    results = read_results(str(file))
    order = [(row.repetition, row.subject, row.workload) for row in results.measured]
    assert order == [
        (repetition, subject, workload)
        for repetition, subjects in enumerate([("bitcask", "sqlite3"), ("sqlite3", "bitcask")])
        for subject in subjects
        for workload in ("fillrandom", "readrandom")
    ]
    for row in results.measured:
        assert (row.counters is None) == (row.subject == "sqlite3"), "a peer has no counters"
        assert row.operations == 500 and row.latency is not None and row.disk_bytes and row.live_bytes == 500 * 116
    written = results.measured[0].counters
    assert written is not None and written.user_bytes == 500 * 116 and written.bytes_written > written.user_bytes
    assert results.notes == ["this machine is busy"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fillrandm"], "no workload is called 'fillrandm'"),
        (["--engine", "nope"], "no engine is called 'nope'"),
        (["--engine", "lsm,colour=red"], "has no option 'colour'"),
        (["--engine", "lsm,sync=true"], "has no option 'sync'"),
        (["--engine", "lsm", "--engine", "lsm"], "lsm is to be measured twice"),
        (["--option", "colour=red"], "none of the engines has an option as in 'colour=red'"),
        (["--peer", "etcd"], "no peer is called 'etcd'"),
        (["--mix", "get"], "a mix is written get=90,put=8,scan=2"),
        (["--mix", "get=0"], "at least 0, and one is more"),
        (["--mix", "get=x"], "the share of get in a mix is a number"),
        (["--json", "/no/such/directory/file.json"], "can't be written"),
        (["--json", "/tmp"], "can't be written"),
        (["--directory", "/no/such/directory"], "/no/such/directory is no directory that you may write to"),
        (["--directory", __file__], "is no directory that you may write to"),
        (["compare", "A.json"], "takes two documents"),
        (["compare", "/no/A.json", "/no/B.json"], "No such file or directory: '/no/A.json'"),
        (["compare", __file__, __file__], "this is no JSON"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_a_document_that_cannot_be_written_leaves_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that filled up during the run takes the file, and not what an hour has found."""
    monkeypatch.setattr(run, "busy", lambda: "")
    words = ["fillrandom", "--engine", "bitcask", "--keys", "100", "--repetitions", "1", "--no-durability"]
    assert cli.main(["bench", *words, "--json", "/dev/full"]) == 2
    printed = capsys.readouterr()
    assert "fillrandom, 100 keys" in printed.out
    assert "/dev/full can't be written: No space left on device" in printed.err


@pytest.mark.parametrize(
    ("workload", "name"), [("fillbatch", "Failing"), ("recover", "Failing"), ("fillbatch", "Talking")]
)
def test_a_run_in_which_a_subject_failed_ends_with_status_1(
    workload: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all of it is printed and written: what the others have done is as good as ever."""
    monkeypatch.setattr(run, "busy", lambda: "")
    file = tmp_path / "results.json"
    subjects = ["--engine", "bitcask", "--engine", f"{BROKEN}:{name}"]
    words = [workload, *subjects, "--keys", "100", "--repetitions", "1", "--no-durability", "--json", str(file)]
    status = cli.main(["bench", *words])
    printed = capsys.readouterr()
    assert f"{workload}, 100 keys" in printed.out and "bitcask" in printed.out
    failed = [f"broken_engines.py:{name}"] if name == "Failing" else []
    assert status == (1 if failed else 0)
    assert read_results(str(file)).failed == failed
    assert [
        sentence.partition(",")[0] for sentence in printed.err.splitlines() if sentence.startswith("broken")
    ] == failed


@pytest.mark.parametrize("words", [["--keys", "99"], ["--keys", "1e5.5"], ["--keys", "1e-3"], ["--repetitions", "0"]])
def test_numbers_have_bounds(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", *words])
    assert "from" in capsys.readouterr().err


def test_a_library_that_can_draw_nothing_is_one_sentence_after_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """matplotlib is found before the run, and its import fails afterwards: the run is not lost."""

    def broken(results: Results) -> str:
        raise report.ReportFault("matplotlib can't be used")

    monkeypatch.setattr(report, "report", broken)
    words = ["fillrandom", "--engine", "bitcask", "--keys", "500", "--repetitions", "1", "--no-durability"]
    assert cli.main(["bench", *words, "--report", str(tmp_path / "page.html")]) == 2
    said = capsys.readouterr()
    assert "fillrandom, 500 keys" in said.out and "matplotlib can't be used" in said.err
    assert "Traceback" not in said.err

"""Lines for people: written when that can be done, dropped and counted when it can't, and never waited for."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading

import pytest

from server import logs
from server.json_lines import JsonLines
from server.logs import LINES_MAX, LineWriter, Minutely
from tests.server.local_nodes import free_ports


def read_all(descriptor):
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while piece := os.read(descriptor, 1 << 16):
            data += piece
    except BlockingIOError:
        pass
    return data


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(end)


def test_lines_are_written_in_order(pipe):
    reader, writer = pipe
    lines = LineWriter(writer)
    for number in range(100):
        lines.put(f"line {number} ä \udcff")
    assert lines.flush(10)
    assert read_all(reader).decode().splitlines() == [f"line {number} ä \\udcff" for number in range(100)]
    assert lines.dropped == 0


def test_nobody_waits_for_a_pipe_that_nobody_reads(pipe):
    """More than a pipe and the queue hold: put returns all the same, and what was dropped is said when there is room."""
    reader, writer = pipe
    lines = LineWriter(writer)
    for number in range(3 * LINES_MAX):
        lines.put(f"{number} " + "x" * 200)
    assert not lines.flush(0.01)
    assert lines.dropped >= 3 * LINES_MAX - LINES_MAX - 65536 // 200 - 1
    text = b""
    while not lines.flush(0.01):
        text += read_all(reader)
    lines.put("the last")
    assert lines.flush(10)
    text += read_all(reader)
    assert b"lines before this one could not be written" in text
    assert text.endswith(b"the last\n")


@pytest.mark.parametrize("kind", ["gone", "full"])
def test_a_line_that_can_not_be_written_is_counted_and_the_next_one_tried(pipe, kind):
    reader, writer = pipe
    os.close(reader)
    failing = os.open("/dev/full", os.O_WRONLY) if kind == "full" else writer
    lines = LineWriter(failing)
    for _ in range(3):
        lines.put("lost")
        assert lines.flush(10)
    assert lines.dropped == 3
    if kind == "full":
        os.close(failing)


def test_a_writer_without_threads_drops_nothing_that_the_next_line_can_bring(pipe, monkeypatch):
    reader, writer = pipe
    lines = LineWriter(writer)
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no more threads")))
        lines.put("first")
    lines.put("second")
    assert lines.flush(10)
    assert read_all(reader) == b"first\nsecond\n"


def test_what_the_server_logs_goes_through_the_writer(capfd, caplog):
    """And still through `logging`, for programs that embed a node."""
    logs.logger("http").warning("it happened: %s", "here")
    logs.flush()
    assert capfd.readouterr().err == "it happened: here\n"
    assert "it happened: here" in caplog.text
    record = logging.LogRecord("metcd", logging.WARNING, "", 1, "a wrong %d", ("format",), None)
    before = logs.dropped_lines()
    logs.logger().handlers[0].emit(record)
    assert logs.dropped_lines() == before + 1


def test_what_happens_often_is_said_once_a_minute_and_counted(caplog):
    now = 0.0
    minutely = Minutely(logging.getLogger("metcd.test"), lambda: now)
    for now in (0.0, 1.0, 59.0, 61.0, 62.0):
        minutely.say(f"at {now:g}")
    assert [record.getMessage() for record in caplog.records] == [
        "at 0",
        "at 61 (and 2 times before, in the last minutes)",
    ]
    assert minutely.count == 5


# ---- for programs ---------------------------------------------------------------------------------------------------


def _records(format_, *says):
    """What a logger with this formatter writes."""
    lines = []

    class Collects(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    log = logging.Logger("metcd.test")
    handler = Collects()
    handler.setFormatter(format_)
    log.addHandler(handler)
    for say in says:
        say(log)
    return lines


def test_a_line_for_programs_is_one_json_object():
    (line,) = _records(JsonLines(3), lambda log: log.warning("two\nlines of %s ä", "ours", extra={"times": 2}))
    record = json.loads(line)
    assert "\n" not in line and list(record)[:5] == ["time", "level", "node", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {
        "level": "warning",
        "node": 3,
        "logger": "metcd.test",
        "message": "two\nlines of ours ä",
        "times": 2,
    }


def test_an_exception_stays_on_its_line():
    def fail(log):
        try:
            raise OSError(28, "full")
        except OSError:
            log.exception("it failed", extra={"what": b"bytes"})

    (line,) = _records(JsonLines(None), fail)
    record = json.loads(line)
    assert "\n" not in line and record["node"] is None and record["level"] == "error"
    assert record["exception"].splitlines()[-1] == "OSError: [Errno 28] full" and record["what"] == "b'bytes'"


def test_what_happens_often_says_how_often_as_a_field():
    now = [0.0]

    def often(log):
        complaint = Minutely(log, lambda: now[0])
        for _ in range(3):
            complaint.say("again")
        now[0] += 61
        complaint.say("again")

    assert [json.loads(line)["times"] for line in _records(JsonLines(1), often)] == [1, 3]


def test_a_node_logs_json_when_it_is_told_to(tmp_path):
    """A whole process, whose every line is JSON: the warning about its disk, that it serves, and its refusal by others."""
    port = free_ports(2)
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--id", "1", "--cluster", f"http://127.0.0.1:{port[0]}", "--port", str(port[1]),
         "--data", str(tmp_path / "node1"), "--log-format", "json", "--until-stdin-closes"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    lines = []
    for line in process.stdout:
        lines.append(json.loads(line))
        if "serves" in lines[-1]["message"]:
            break
    process.stdin.close()
    lines += map(json.loads, process.stdout)
    process.stdout.close()
    assert process.wait(30) == 0
    assert all(line["node"] == 1 and line["logger"].startswith("metcd") for line in lines)
    assert any(
        line["message"].startswith("node 1 serves http://127.0.0.1:") and line["level"] == "info" for line in lines
    )

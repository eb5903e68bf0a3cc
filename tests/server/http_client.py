"""What the tests of the HTTP interface share: requests, and how answers are read."""

import base64
import json
import threading
import time

GET = b"GET /a HTTP/1.1\r\nHost: x.localhost\r\n\r\n"


def sentence(answer):
    """The one sentence of an error; fails if the answer isn't one."""
    _, headers, body = answer
    assert headers["content-type"] == "application/json"
    error = json.loads(body)["error"]
    assert "\n" not in error
    assert error
    return error


def b64(data):
    return base64.b64encode(data).decode()


def lines(body):
    return [
        (base64.b64decode(pair["key"]), base64.b64decode(pair["value"])) for pair in map(json.loads, body.splitlines())
    ]


def batch(*operations):
    return "".join(json.dumps(operation) + "\n" for operation in operations).encode()


def until(look):
    """Returns when `look()` is true; fails after ten seconds."""
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while not look():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        pause.wait(0.01)


def hold(wires, node):
    """Each of these connections waits for the answer of a write that takes its time; returns when all do."""
    node.gate.clear()
    for wire in wires:
        node.asked.clear()
        wire.send(b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv")
        assert node.asked.wait(10)

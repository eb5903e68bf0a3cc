"""The head of a request: what is taken, what is refused, and what its fields mean."""

import pytest

from server.limits import FIELD_BYTES_MAX, FIELDS_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from server.request import BadRequest, is_local_name, parse_head, percent_decode


def test_most_fields_and_longest_lines_are_still_taken():
    fields = b"".join(b"A%d: b\r\n" % number for number in range(63))
    assert parse_head(b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % fields) is not None
    line = b"GET /%b HTTP/1.1\r\n" % (b"a" * (REQUEST_LINE_BYTES_MAX - 14))
    request = parse_head(line + b"Host: x\r\nA:%b\r\n\r\n" % (b"b" * (FIELD_BYTES_MAX - 2)))
    assert request is not None
    assert len(line) == REQUEST_LINE_BYTES_MAX + 2


def test_all_fields_together_are_bounded():
    fields = b"A: %b\r\n" % (b"b" * 8000) * (FIELDS_BYTES_MAX // 8000 + 1)
    with pytest.raises(BadRequest, match="65,536") as refused:
        parse_head(b"GET /a HTTP/1.1\r\n" + fields)
    assert refused.value.status == 431


@pytest.mark.parametrize(("host", "local"), [
    ("localhost:3379", True), ("LOCALHOST", True), ("a.localhost", True), ("127.0.0.1", True), ("127.0.0.1:3379", True),
    ("[::1]:3379", True), ("[::1]", True), ("example.com", False), ("127.0.0.1.example.com", False), ("", False),
    ("localhost.example.com:80", False), ("1.2.3", False), ("notlocalhost", False),
])  # fmt: skip
def test_local_names_are_those_that_nobody_else_can_own(host, local):
    assert is_local_name(host.encode()) == local


def test_percent_decoding_is_of_bytes():
    assert percent_decode(b"%e4%BD%a0+%25") == b"\xe4\xbd\xa0+%"
    for bad in (b"%", b"%1", b"a%1g", b"%%41"):
        with pytest.raises(BadRequest):
            percent_decode(bad)


@pytest.mark.parametrize("name", ["X-Metcd-Request", "x-metcd-request", "X-METCD-REQUEST"])
@pytest.mark.parametrize("at", range(3))
def test_the_line_that_differs_in_each_request_is_read_wherever_it_stands(name, at):
    """It is taken out of the block that repeats itself, if it is written as our client does; the outcome is the same."""
    lines = ["Host: a", "Content-Length: 5"]
    lines.insert(at, f"{name}: 17/3")
    head = "".join(f"{line}\r\n" for line in ["PUT /k HTTP/1.1", *lines, ""]).encode()
    fields = parse_head(head).fields
    assert (fields.serial, fields.host, fields.content_length) == (b"17/3", b"a", 5)
    with pytest.raises(BadRequest, match="two X-Metcd-Request fields"):
        parse_head(head.replace(b"Host: a", b"Host: a\r\nX-Metcd-Request: 1/1"))
    with pytest.raises(BadRequest, match="two X-Metcd-Request fields"):
        parse_head(head.replace(b"Host: a", b"Host: a\r\nx-metcd-request: ?"))
    other = b"GET /k HTTP/1.1\r\nHost: a\r\nX-Other: X-Metcd-Request: 1/1\r\n\r\n"
    assert parse_head(other).fields.serial is None

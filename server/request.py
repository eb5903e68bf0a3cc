"""The head of an HTTP request: what is accepted, read by one pure function.

    PUT /hello?wait=false HTTP/1.1 CR LF      request line: method, target, version, one space between them
    Host: 127.0.0.1:3379 CR LF                fields; server/limits.py has the limits of all this
    Content-Length: 5 CR LF
    CR LF                                     the empty line ends the head
    world                                     the body: exactly Content-Length bytes; the next request follows it

Two parties that disagree on where a request ends can be made to disagree on what the next one says (request smuggling,
RFC 9112 section 11.2). So whatever is not one of these is refused with 400, and nothing is repaired or guessed:

1. Lines end in CR LF, never in a bare CR or LF; no NUL and no other control byte; no continued lines (obs-fold).
2. A method and a field's name are tokens; there is no space before a colon. A target has visible ASCII characters only.
3. HTTP/1.1, whose requests name one Host; HTTP/1.0, whose connections end after one answer. No HTTP/0.9.
4. Content-Length comes once, as decimal digits. Transfer-Encoding is "chunked" and nothing else, and HTTP/1.1's; beside
   Content-Length it is an attack. Only etcd's paths take such a body (server/body.py): elsewhere it is answered 411, since
   the client has to send a length instead.

`http.server` parses with `email.parser`, takes "+2" and "0_2" for a Content-Length and the first of two, skips over a
chunked body as if it were the next request, and answers HTTP/0.9; and its parser costs more than the rest of a request.

Left out: the empty line that RFC 9112 section 2.2 allows before a request, for clients of the 1990s. Follows RFC 9110 and
9112.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from server.limits import FIELD_BYTES_MAX, FIELDS_BYTES_MAX, FIELDS_MAX, REQUEST_LINE_BYTES_MAX

__all__ = [
    "CHUNKED_SENTENCE",
    "HEAD_END",
    "BadRequest",
    "Fields",
    "Request",
    "is_local_name",
    "parse_head",
    "percent_decode",
    "read_head",
]

CHUNKED_SENTENCE = "A body must come with a Content-Length: chunked bodies are not accepted here."
LINE_BYTES = 1 << 14  # that are read at once of a line
LENGTH_DIGITS_MAX = 18  # more don't fit into 64 bits, and int() needn't see them

HEAD_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-\"$-~]+) HTTP/1\.([01])" % _TOKEN)  # every visible character but "#"
_FIELD = re.compile(rb"(%b):([\t -~\x80-\xff]*)" % _TOKEN)
_SERIAL_NAME = b"X-Metcd-Request: "  # as our client writes it; others' spellings are found with all other fields
_SERIAL_LINE = re.compile(rb"^X-Metcd-Request: ([0-9]{1,18}/[0-9]{1,18})\r\n", re.MULTILINE)
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0")  # at the end, a CR may still get its LF
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp]://[^/?]+(?=[/?]|\Z)")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class BadRequest(Exception):
    """A request that is answered with an error before it is acted on; nothing was done.

    `status` is the HTTP status, `sentence` what the client is told, `headers` further lines of the answer, each with
    its CR LF.
    """

    def __init__(self, status: int, sentence: str, headers: bytes = b"") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


class Fields(NamedTuple):
    """What the server heeds of a request's fields; the others are checked and forgotten."""

    content_length: int | None = None
    host: bytes | None = None
    origin: bytes | None = None
    close: bool = False  # Connection: close
    expects: bool = False  # Expect: 100-continue
    from_page: bool = False  # a browser says that a page sent it: there is an Origin, or Sec-Fetch-Site is cross-site
    serial: bytes | None = None  # X-Metcd-Request
    html: bool = False  # Accept has text/html: a person's browser asks for a page
    known: bytes | None = None  # If-None-Match: what the client has already
    chunked: bool = False  # Transfer-Encoding: chunked
    authorization: bytes | None = None
    token: bytes | None = (
        None  # of a call of etcd's: Grpc-Metadata-Token, else Authorization, else that of the metadata
    )
    wants_leader: bool = False  # Grpc-Metadata-hasleader: true
    timeout: bytes | None = None  # Grpc-Timeout
    override: bytes | None = None  # of a form: X-HTTP-Method-Override, in upper case


class Request(NamedTuple):
    """A request's head. A tuple: one is made for each request."""

    method: bytes
    target: bytes  # begins with "/", still percent-encoded, with the query
    fields: Fields
    keep_alive: bool  # the connection may be used again after the answer
    http_1_0: bool
    size: int  # bytes of the head, with its empty line; the body begins there


def parse_head(buffer: bytes | bytearray, seen: int = 0) -> Request | None:
    """The head at the start of `buffer`, or None if its end has not arrived. Reads nothing beyond the head.

    `seen` is how much of `buffer` an earlier call has answered None for: it isn't looked at again, so that a head that
    arrives byte by byte costs no more than its bytes. Raises BadRequest: 400, 411, 413, 417 or 431. O(bytes of the
    head); some 2 µs for what curl sends, because clients repeat themselves and `_parse_block` remembers.
    """
    end = buffer.find(HEAD_END, max(0, seen - 3))
    line_end = buffer.find(b"\r\n")
    size = len(buffer) if end < 0 else end
    if size > REQUEST_LINE_BYTES_MAX and not 0 <= line_end <= REQUEST_LINE_BYTES_MAX:
        raise BadRequest(431, f"The request line has at most {REQUEST_LINE_BYTES_MAX:,} bytes.")
    if size - line_end > FIELDS_BYTES_MAX and line_end >= 0:
        raise BadRequest(431, f"The fields of a request have at most {FIELDS_BYTES_MAX:,} bytes.")
    if end < 0:
        if _BARE.search(buffer, max(0, seen - 1)):
            raise BadRequest(400, "Lines of a request's head must end in CR LF and contain no CR, LF or NUL.")
        return None
    line = _REQUEST_LINE.fullmatch(buffer, 0, line_end)
    if line is None:
        raise _bad_request_line(bytes(buffer[:line_end]))
    method, target, minor = line.groups()
    block = bytes(buffer[line_end + 2 : end + 2])
    fields = _parse_numbered(block) if _SERIAL_NAME in block else _parse_often(block)
    http_1_0 = minor == b"0"
    if fields.host is None and not http_1_0:
        raise BadRequest(400, "An HTTP/1.1 request must have a Host field.")
    if fields.chunked and http_1_0:
        raise BadRequest(400, "HTTP/1.0 has no Transfer-Encoding.")
    if not target.startswith(b"/"):
        target = _origin_form(target)
    return Request(method, target, fields, not (fields.close or http_1_0), http_1_0, end + 4)


def read_head(readline: Callable[[int], bytes]) -> tuple[Request, bytes] | None:
    """The next head from a file, and its bytes, for ports where one at a time is enough; None if nothing comes.

    Raises BadRequest as `parse_head` does, 411 for a body in chunks, and what `readline` raises.
    """
    head = bytearray()
    while not head.endswith(HEAD_END):
        line = readline(LINE_BYTES)
        if not line:
            if head:
                raise BadRequest(400, "The head of a request ended in the middle.")
            return None
        head += line
        request = parse_head(head if not head.endswith(HEAD_END) else bytes(head), len(head) - len(line))
    assert request is not None
    if request.fields.chunked:
        raise BadRequest(411, CHUNKED_SENTENCE)
    return request, bytes(head)


def _bad_request_line(line: bytes) -> BadRequest:
    """Says which of the three words is wrong, as far as that can be told."""
    words = line.split(b" ")
    if len(words) == 3 and re.fullmatch(rb"HTTP/[0-9]\.[0-9]", words[2]) and words[2][5:7] != b"1.":
        return BadRequest(400, "This server speaks HTTP/1.1 and HTTP/1.0.")
    return BadRequest(
        400,
        "The request line must be a method, a target of visible ASCII characters without '#' and HTTP/1.1, "
        "with one space between them.",
    )


def _origin_form(target: bytes) -> bytes:
    """The path and query of "http://host/path?query", which RFC 9112 section 3.2.2 has every server accept."""
    authority = _ABSOLUTE.match(target)
    if authority is None:
        raise BadRequest(400, "The target of a request must begin with '/'.")
    rest = target[authority.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _parse_block(block: bytes) -> Fields:
    """Reads the lines after the request line; `block` is empty or ends in CR LF. Pure, so that it can be cached."""
    lines = block.split(b"\r\n")
    lines.pop()  # what follows the last CR LF: nothing
    if len(lines) > FIELDS_MAX:
        raise BadRequest(431, f"A request has at most {FIELDS_MAX} header fields, and this one has {len(lines)}.")
    heeded: dict[bytes, bytes] = {}
    close = html = False
    for line in lines:
        if len(line) > FIELD_BYTES_MAX:
            raise BadRequest(431, f"A header field has at most {FIELD_BYTES_MAX:,} bytes, and one has {len(line):,}.")
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadRequest(400, "A header field must be a name, a colon and a value, on one line of printable bytes.")
        name = field[1].lower()
        if name == b"connection":
            close = close or b"close" in (option.strip(b" \t").lower() for option in field[2].split(b","))
        elif name == b"accept":
            html = html or b"text/html" in field[2].lower()
        elif name == b"if-none-match":
            heeded[name] = field[2].strip(b" \t")
        elif name in _HEEDED:
            if name in heeded:
                raise BadRequest(400, f"A request must not have two {name.decode().title()} fields.")
            heeded[name] = field[2].strip(b" \t")
    host = heeded.get(b"host")
    if host is not None and _HOST.fullmatch(host) is None:
        raise BadRequest(400, "The Host field must be a host's name or address and a port.")
    length = _content_length(heeded)
    origin = heeded.get(b"origin")
    from_page = origin is not None or heeded.get(b"sec-fetch-site", b"").lower() == b"cross-site"
    return Fields(
        length,
        host,
        origin,
        close,
        _expects(heeded),
        from_page,
        heeded.get(b"x-metcd-request"),
        html,
        heeded.get(b"if-none-match"),
        b"transfer-encoding" in heeded,
        heeded.get(b"authorization"),
        next((heeded[name] for name in _TOKENS if name in heeded), None),
        heeded.get(b"grpc-metadata-hasleader") == b"true",
        heeded.get(b"grpc-timeout") or None,
        _override(heeded),
    )


def _override(heeded: dict[bytes, bytes]) -> bytes | None:
    is_form = heeded.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded")
    return heeded.get(b"x-http-method-override", b"").upper() or None if is_form else None


_HEEDED = frozenset(
    (
        b"content-length", b"transfer-encoding", b"host", b"origin", b"expect", b"sec-fetch-site", b"x-metcd-request",
        b"authorization", b"grpc-metadata-token", b"grpc-metadata-authorization", b"grpc-metadata-hasleader",
        b"grpc-timeout", b"x-http-method-override", b"content-type",
    )
)  # fmt: skip
_TOKENS = (b"grpc-metadata-token", b"authorization", b"grpc-metadata-authorization")

# A client's requests differ in their first line and hardly ever in the others. 256 blocks of at most 1 KiB.
_CACHED_BLOCK_BYTES_MAX = 1024
_parse_block_cached = lru_cache(maxsize=256)(_parse_block)


def _parse_often(block: bytes) -> Fields:
    return _parse_block_cached(block) if len(block) <= _CACHED_BLOCK_BYTES_MAX else _parse_block(block)


def _parse_numbered(block: bytes) -> Fields:
    """A block with a line that is another one in each request: it is taken out, and the rest is what repeats itself."""
    found = _SERIAL_LINE.search(block)
    if found is None:
        return _parse_often(block)
    fields = _parse_often(block[: found.start()] + block[found.end() :])
    if fields.serial is not None:
        raise BadRequest(400, "A request must not have two X-Metcd-Request fields.")
    return fields._replace(serial=found[1])


def _content_length(heeded: dict[bytes, bytes]) -> int | None:
    length = heeded.get(b"content-length")
    if b"transfer-encoding" in heeded:
        if length is not None:
            raise BadRequest(400, "A request must not have both Content-Length and Transfer-Encoding.")
        if heeded[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest(411, "The only Transfer-Encoding of a body is chunked.")
    if length is None:
        return None
    if not length.isdigit():
        raise BadRequest(400, "Content-Length must be one number in decimal digits.")
    if len(length) > LENGTH_DIGITS_MAX:
        raise BadRequest(413, "The body is too large.")
    return int(length)


def _expects(heeded: dict[bytes, bytes]) -> bool:
    expectation = heeded.get(b"expect")
    if expectation is None:
        return False
    if expectation.lower() != b"100-continue":
        raise BadRequest(417, "The only expectation that is met is 100-continue.")
    return True


def is_local_name(host: bytes) -> bool:
    """True if a Host field names localhost or an address: no look-up of a name that somebody else owns leads to them."""
    name = host.rpartition(b":")[0] if host.rpartition(b":")[2].isdigit() and b":" in host else host
    name = name.lower()
    if name == b"localhost" or name.endswith(b".localhost") or name.startswith(b"["):
        return True
    parts = name.split(b".")
    return len(parts) == 4 and all(part.isdigit() for part in parts)


def percent_decode(text: bytes) -> bytes:
    """Replaces each %XX by its byte; "+" stays "+". Raises BadRequest (400) for a "%" without two hex digits after it."""
    if b"%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise BadRequest(400, "Each '%' of a target must be followed by two hexadecimal digits.")
    return unquote_to_bytes(text)

"""Strangers' names and pages: our default, and what etcd's flags open."""

import pytest

from server.answers import Answer
from server.request import BadRequest, Fields
from server.strangers import ANYBODY, CORS_FIELDS, NOBODY, Strangers, name_of

KEY, RANGE = b"/k", b"/v3/kv/range"
PAGE = Fields(host=b"localhost", origin=b"http://example.org", from_page=True)
ANY_PAGE = Strangers(origins=frozenset((ANYBODY,)))
ONE_PAGE = Strangers(origins=frozenset(("http://example.org",)))


def refused(strangers, fields, target, local_only=True):
    try:
        answer = strangers.check(fields, local_only, target)
    except BadRequest as error:
        return error.status
    return None if answer is None else answer.status


@pytest.mark.parametrize("target", [KEY, RANGE])
def test_by_default_no_stranger_is_let_in(target):
    assert refused(NOBODY, PAGE, target) == 403
    assert refused(NOBODY, Fields(host=b"example.org"), target) == 403
    assert refused(NOBODY, Fields(host=b"example.org"), target, local_only=False) is None
    assert (
        refused(NOBODY, Fields(host=b"localhost:3379", origin=b"http://localhost:3379", from_page=True), target) is None
    )


@pytest.mark.parametrize("strangers", [ANY_PAGE, ONE_PAGE])
@pytest.mark.parametrize(
    ("target", "status"),
    [
        (RANGE, None), (b"/v3beta/kv/range", None), (b"/version", None), (b"/health?serializable=true", None),
        (KEY, 403), (b"/_/scan", 403), (b"/versions", 403), (b"/_/v3/", 403),
    ],
)  # fmt: skip
def test_cors_opens_the_paths_of_etcd_and_no_others(strangers, target, status):
    assert refused(strangers, PAGE, target) == status


def test_cors_opens_them_to_these_pages_alone():
    other = PAGE._replace(origin=b"http://example.com")
    assert refused(ONE_PAGE, other, RANGE) == 403
    assert refused(ONE_PAGE, PAGE._replace(origin=None), RANGE) == 403  # Sec-Fetch-Site says cross-site, and not who
    assert refused(ANY_PAGE, other, RANGE) is None


def test_a_page_is_told_that_it_is_let_in_and_no_other_is():
    answer = Answer(200, b"", CORS_FIELDS + b"A: b\r\n")
    assert ONE_PAGE.dressed(answer, b"http://example.org").headers.count(b"Allow-Origin: http://example.org\r\n") == 1
    assert ONE_PAGE.dressed(answer, b"http://example.com").headers == b"A: b\r\n"
    assert ONE_PAGE.dressed(answer, None).headers == b"A: b\r\n"
    assert ANY_PAGE.dressed(answer, b"http://example.com") is answer


@pytest.mark.parametrize("host", [b"127.0.0.1", b"127.0.0.1:3379", b"[::1]:3379", b"[::1]"])
def test_names_on_the_list_are_answered_and_others_are_told_what_etcd_tells(host):
    strangers = Strangers(hosts=frozenset(("127.0.0.1", "::1")))
    assert refused(strangers, Fields(host=host), KEY) is None
    assert refused(strangers, Fields(host=b"localhost"), KEY) == 421
    assert b'--host-whitelist "localhost"' in strangers.check(Fields(host=b"localhost:1"), True, RANGE).body
    assert refused(Strangers(hosts=frozenset((ANYBODY,))), Fields(host=b"example.org"), KEY) is None


def test_the_name_in_a_host_field():
    assert [name_of(host) for host in (b"a.b", b"a.b:1", b"a.b:", b"[::1]", b"[::1]:80")] == ["a.b"] * 3 + ["::1"] * 2

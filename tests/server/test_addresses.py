"""Hosts and ports as text and back."""

import socket

import pytest

from server.addresses import family, netloc, parse_url, url_of

ADDRESSES = [("127.0.0.1", 3379), ("::1", 3380), ("fe80::1", 1), ("node1.example", 65535)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_written_is_read_again(address):
    assert parse_url(url_of(*address)) == address
    assert parse_url(f"{url_of(*address)}/") == address
    assert parse_url(f"http://{netloc(*address)}") == address


def test_an_ipv6_address_stands_in_brackets():
    assert url_of("::1", 3379) == "http://[::1]:3379"
    assert (family("::1"), family("127.0.0.1"), family("localhost")) == (
        socket.AF_INET6,
        socket.AF_INET,
        socket.AF_INET,
    )


@pytest.mark.parametrize(
    "bad",
    ["", "http://h", "https://h:1", "http://:1", "http://h:0", "http://h:65536", "http://h:x", "http://[::1:1",
     "http://h:1/path", "http://h:1?q", "http://user@h:1", "::1", "h:1", "http://a..b:1", "http://a\0b:1", "http://a b:1",
     f"http://{'a' * 64}:1", None, 3379, b"http://h:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_name(bad):
    with pytest.raises(ValueError, match="a node's URL is http://host:port, and this is "):
        parse_url(bad)

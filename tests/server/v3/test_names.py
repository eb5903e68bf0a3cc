"""What `metcd serve` has a node publish of itself: --name and --advertise-client-urls, and what they are if nobody says."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from server.verbs import nodes
from server.verbs.words import UsageError


def told(**options: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"id": 2, "name": None, "advertise_client_urls": None, "host": "127.0.0.1", "port": 3379, **options}
    )


def test_a_name_if_nobody_says_one() -> None:
    assert nodes._name(told()) == "node2"
    assert nodes._name(told(name="a b")) == "a b"


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="--name is 1 to 200 bytes"):
        nodes._name(told(name=name))


def test_where_clients_reach_a_node_if_nobody_says() -> None:
    """A node that listens on all addresses is called by the name that its peers have for it."""
    assert nodes._client_urls(told(), "ten") == ("http://127.0.0.1:3379",)
    assert nodes._client_urls(told(host="::1"), "ten") == ("http://[::1]:3379",)
    for everywhere in ("0.0.0.0", "::"):
        assert nodes._client_urls(told(host=everywhere), "10.0.0.2") == ("http://10.0.0.2:3379",)


def test_several_urls() -> None:
    urls = "http://a:1,http://b:2"
    assert nodes._client_urls(told(advertise_client_urls=urls), "ten") == ("http://a:1", "http://b:2")
    for wrong in ("a:1", "https://a:1", "http://a", "http://a:1/x", "http://a:1,"):
        with pytest.raises(UsageError, match="--advertise-client-urls"):
            nodes._client_urls(told(advertise_client_urls=wrong), "ten")

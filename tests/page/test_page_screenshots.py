"""Every view of a real cluster, as a stranger sees it: light, dark and narrow.

METCD_SCREENSHOTS=DIR keeps the pictures, DIR/lsm-dark.png and so on. Without it, what is asked is asked all the same: no
error, no request to anywhere else, nothing that is wider than its screen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.client import Client
from server.cluster import LocalCluster
from tests.page.browsing import DESK, PHONE, expect

LOOKS = {
    "light": {"viewport": DESK, "color_scheme": "light"},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "narrow": {"viewport": PHONE, "color_scheme": "light"},
}


@pytest.fixture(scope="module")
def filled(cluster: LocalCluster) -> LocalCluster:
    """Some thousand keys, written over and deleted, so that there is something to see."""
    with Client([node.url for node in cluster.nodes]) as client:
        for turn in range(24):
            client.batch(
                [(b"key/%05d" % (n * 7919 % 4000), b"%d " % turn * 40) for n in range(turn * 100, turn * 100 + 400)]
            )
            client.batch([(b"key/%05d" % n, None) for n in range(turn, 4000, 97)])
    return cluster


@pytest.mark.parametrize("look", LOOKS)
def test_every_view_of_a_cluster(filled: LocalCluster, visit: Any, keep: Callable[[Any, str], None], look: str) -> None:
    """Each tab, with the frames of all three nodes."""
    urls = [node.url for node in filled.nodes]
    visit.allow(*urls)
    page = visit(f"{urls[0]}/_/page", **LOOKS[look])
    expect(page.get_by_test_id("cluster-ring")).to_contain_text("3 of 3 nodes are heard")
    with Client(urls) as client:  # so that there are requests to be seen
        for n in range(20):
            client.put(b"key/%05d" % n, b"seen")
            client.get(b"key/%05d" % n)
    for tab in page.get_by_role("tab").all():
        view = tab.get_attribute("href").removeprefix("#")
        tab.click()
        expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
        expect(page.get_by_role("tabpanel")).not_to_be_empty()
        assert page.evaluate("document.documentElement.scrollWidth") == LOOKS[look]["viewport"]["width"]  # type: ignore[index]
        keep(page, f"{view}-{look}")

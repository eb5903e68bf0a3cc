"""What the tests of the live page share: a browser, three real nodes, nodes that aren't there, and a strict look at a page.

    visit(url)         a page in a context of its own; at the end of the test it must have had no error in its console, no
                       exception, and no request to anywhere but the nodes
    cluster            three nodes on three engines, as processes, for the tests of one file
    fake               fake(make): nodes that send made-up frames, for states that a real cluster needs weeks to come to
    keep(page, name)   a screenshot in METCD_SCREENSHOTS, if that is set

Nothing here sleeps: `expect(locator)` waits for what a test is about. `page.wait_for_function` can't: it needs eval, which the
page's Content-Security-Policy forbids.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.client import Client
from server.cluster import LocalCluster
from tests.page.browsing import Visits
from tests.page.fake_feed import FakeNodes
from tests.server.local_nodes import PATIENCE_S, cluster_port

ENGINES = ["lsm", "btree", "bitcask"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's browser, driven by Playwright. Skips where there is none, or no Playwright."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed: make page does that")
    where = next(filter(None, map(shutil.which, BROWSERS)), None)
    if where is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    driver.expect.set_options(timeout=1000 * PATIENCE_S)
    with driver.sync_playwright() as playwright:
        # no sandbox: it needs rights that a container doesn't give, and the pages are ours
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visits]:
    visits = Visits(chromium)
    yield visits
    visits.close()
    assert visits.offences == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(ENGINES, str(tmp_path_factory.mktemp("cluster")), cluster_port()) as nodes:
        nodes.say = lambda line: None
        nodes.start()
        nodes.wait_until_healthy()
        yield nodes


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client([node.url for node in cluster.nodes]) as opened:
        yield opened


@pytest.fixture
def fake(visit: Visits) -> Iterator[Callable[..., FakeNodes]]:
    with contextlib.ExitStack() as stack:

        def begin(make: Callable[..., Any], **options: Any) -> FakeNodes:
            nodes = stack.enter_context(FakeNodes(make, **options))
            visit.allow(*nodes.urls)
            return nodes

        yield begin
        visit.close()


@pytest.fixture
def keep() -> Callable[[Any, str], None]:
    """A whole page as a picture, for people to look at."""
    directory = os.environ.get("METCD_SCREENSHOTS")

    def take(page: Any, name: str) -> None:
        if directory is not None:
            page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=True)

    return take

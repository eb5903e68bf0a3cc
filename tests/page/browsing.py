"""A browser that looks at our pages more strictly than people do.

Playwright is imported late: these files can be collected where it isn't installed, and conftest.py skips then.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tests.server.local_nodes import PATIENCE_S

PHONE = {"width": 320, "height": 640}
DESK = {"width": 1280, "height": 800}


def expect(found: Any) -> Any:
    """Playwright's: waits until what is said of a locator or a page is true."""
    from playwright.sync_api import expect as expected

    return expected(found)


class Visits:
    """Opens pages, and notes what no page of ours may do."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._origins: set[str] = set()
        self._forgiven: list[str] = []
        self.offences: list[str] = []
        self.pages: list[Any] = []

    def __call__(self, url: str, **options: Any) -> Any:
        """A page in a fresh context with these options (color_scheme="dark", viewport=PHONE, …), at `url`."""
        page = self._browser.new_context(**{"viewport": DESK, "locale": "en", **options}).new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.on("console", lambda message: message.type == "error" and self._note("console", message.text))
        page.on("pageerror", lambda error: self._note("exception", str(error)))
        page.on("request", lambda request: self._look_at(request.url))
        self._origins.add(_origin(url))
        self.pages.append(page)
        page.goto(url)
        return page

    def allow(self, *urls: str) -> None:
        """Requests to these origins are right: the other nodes, the lab."""
        self._origins.update(map(_origin, urls))

    def forgive(self, words: str) -> None:
        """An error with these words is what the test brings about: "net::ERR", when it kills a node."""
        self._forgiven.append(words)

    def _note(self, kind: str, text: str) -> None:
        if not any(words in text for words in self._forgiven):
            self.offences.append(f"{kind}: {text}")

    def _look_at(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")) and _origin(url) not in self._origins:
            self.offences.append(f"a request to {url}")

    def close(self) -> None:
        """Closes all pages; their streams end."""
        for page in self.pages:
            page.context.close()


def _origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))

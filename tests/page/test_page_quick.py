"""A page that stays quick: what a frame costs doesn't grow with what it is about.

No clock decides here. What makes a page slow is counted: elements, and those that are made anew. The frame times are
printed (`make page ARGS="-s -k quick"`), because people want to know them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.page import frames
from tests.page.browsing import expect
from tests.page.fake_feed import FakeNodes

Fake = Callable[..., FakeNodes]
VIEWS = ["cluster", "log", "requests"]
ELEMENTS_MAX = 1500
SVG_MAX = 400

# until the page was drawn so many times: how many elements were added, and how long the browser's own frames took
WATCH = """async (draws) => {
  let added = 0;
  const observer = new MutationObserver((records) => {
    for (const record of records) added += [...record.addedNodes].filter((node) => node.nodeType === 1).length;
  });
  const main = document.querySelector("main");
  observer.observe(main, {childList: true, subtree: true});
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  const seen = () => Number(document.body.dataset.draws ?? 0);
  const end = seen() + draws;
  while (seen() < end) {
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  times.sort((a, b) => a - b);
  return {added, times, elements: main.querySelectorAll("*").length, svg: main.querySelectorAll("svg *").length};
}"""


@pytest.mark.parametrize("view", VIEWS)
def test_seven_busy_nodes(fake: Fake, visit: Any, view: str) -> None:
    """A log of millions, 280 messages and 140 requests in each tenth of a second."""
    page = visit(f"{fake(frames.big, nodes=7).url}/_/page#{view}")
    expect(page.locator(".chip:not(:disabled)")).to_have_count(7)
    expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
    page.evaluate(
        """() => {
        document.body.dataset.draws = 0;
        new MutationObserver(() => document.body.dataset.draws++).observe(document.querySelector("main"),
          {subtree: true, childList: true, characterData: true, attributes: true});
        }"""
    )
    page.evaluate(WATCH, 20)  # until every element that is used again is there
    seen = page.evaluate(WATCH, 40)
    times = seen["times"]
    print(f"{view}: {seen['elements']} elements, {seen['svg']} of them SVG; frame times in ms: median"
          f" {times[len(times) // 2]:.1f}, 95 % {times[len(times) * 95 // 100]:.1f}, longest {times[-1]:.1f}")  # fmt: skip
    assert seen["added"] == 0
    assert seen["elements"] <= ELEMENTS_MAX
    assert seen["svg"] <= SVG_MAX

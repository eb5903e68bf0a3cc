"""The logs side by side: cells with terms and kinds, what is committed and applied, and who is behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.page import frames
from tests.page.browsing import PHONE, expect
from tests.page.fake_feed import FakeNodes

Fake = Callable[..., FakeNodes]


def still(node_id: int, n: int, urls: list[str]) -> frames.Frame:
    """A log of 20 entries that doesn't grow: node 2 has an entry of another term at the end, node 3 fifteen entries."""
    frame = frames.small(node_id, 0, urls)
    raft = frame["raft"]
    raft |= {"first": 1, "last": 20, "commit": 18, "applied": 17, "snapshot_index": 0}
    raft["log"] = [[index, 1 + (index > 9), "put", 100] for index in range(1, 21)]
    if node_id == 2:
        raft["log"][19] = [20, 1, "delete", 30]
        raft |= {"first": 8, "snapshot_index": 7}
        raft["log"] = raft["log"][7:]
    if node_id == 3:
        raft |= {"last": 15, "commit": 15, "applied": 15}
        raft["log"] = raft["log"][:15]
    return frame


def test_what_the_cells_say(fake: Fake, visit: Any) -> None:
    """Colour, letter and words of the same entry agree."""
    page = visit(f"{fake(still).url}/_/page#log")
    cells = page.locator(".log tbody tr:nth-child(1) td")
    expect(cells.nth(0)).to_have_attribute("title", "entry 1 of term 1: a put, 100 bytes, committed and applied")
    expect(cells.nth(17)).to_have_attribute("title", "entry 18 of term 2: a put, 100 bytes, committed, not applied yet")
    expect(cells.nth(19)).to_have_attribute("title", "entry 20 of term 2: a put, 100 bytes, not committed yet")
    assert cells.nth(0).get_attribute("class") == "term-0 applied"
    assert cells.nth(17).get_attribute("class") == "term-1"
    assert cells.nth(19).get_attribute("class") == "term-1 open"
    expect(cells.nth(0)).to_have_text("P")


def test_who_is_behind_and_what_will_be_overwritten(fake: Fake, visit: Any) -> None:
    """Gaps, a snapshot's cells, and an entry that isn't the leader's."""
    page = visit(f"{fake(still).url}/_/page#log")
    expect(page.get_by_test_id("log-cells")).to_contain_text(
        "The last entry is 20, committed is up to 18; node 3 is behind."
    )
    expect(page.locator(".log tbody tr:nth-child(3) th")).to_contain_text("5 behind")
    expect(page.locator(".log tbody tr:nth-child(3) td.none").first).to_have_attribute("aria-label", "nothing yet")
    second = page.locator(".log tbody tr:nth-child(2) td")
    assert second.nth(0).get_attribute("title") == "entry 1: cut off, it is in the snapshot"
    assert second.nth(19).get_attribute("class") == "term-0 open differs"
    row = page.get_by_test_id("log-where").locator("tbody tr").nth(1)
    expect(row).to_have_text("node 278201817" + "0")


def test_the_cells_are_read_with_the_keyboard(fake: Fake, visit: Any) -> None:
    """Arrows go from cell to cell, and what is under them is said."""
    page = visit(f"{fake(still).url}/_/page#log")
    cells = page.locator(".log tbody tr:nth-child(1) td")
    expect(page.locator(".log tbody tr")).to_have_count(3)  # or there is no cell below yet
    cells.nth(19).click()
    expect(page.get_by_test_id("log-entry")).to_have_text(
        "Node 1, entry 20 of term 2: a put, 100 bytes, not committed yet."
    )
    page.keyboard.press("ArrowDown")
    expect(page.get_by_test_id("log-entry")).to_contain_text("Node 2, entry 20 of term 1: a delete")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("log-entry")).to_contain_text("Node 2, entry 19 of term 2")


@pytest.mark.parametrize(("viewport", "fewest", "most"), [(PHONE, 6, 8), ({"width": 1500, "height": 800}, 28, 32)])
def test_as_many_cells_as_there_is_room_for(fake: Fake, visit: Any, viewport: Any, fewest: int, most: int) -> None:
    """The newest of a log of millions; a phone shows fewer, and isn't scrolled."""
    page = visit(f"{fake(frames.big, nodes=7).url}/_/page#log", viewport=viewport)
    expect(page.locator(".log tbody tr")).to_have_count(7)
    assert fewest <= page.locator(".log tbody tr:nth-child(1) td").count() <= most
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    expect(page.locator(".log thead")).to_contain_text("7,34")

"""The last requests: the newest on top, each with the parts of its time; and Raft's log on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.page import frames
from tests.page.browsing import expect
from tests.page.fake_feed import FakeNodes

Fake = Callable[..., FakeNodes]


def three(node_id: int, n: int, urls: list[str]) -> frames.Frame:
    """Node 1 tells of three requests, once."""
    made = frames.small(node_id, 0, urls)
    parts = {"queue": 1.0, "persist": 4.0, "replicate": 2.0, "apply": 0.5}
    made["requests"] = [
        ["PUT", "first", 204, 8.0, parts], ["PUT", "second", 503, 16.0, {}], ["GET", "third", 200, 0.5, {}],
    ] if node_id == 1 and n == 0 else []  # fmt: skip
    return made


def test_the_newest_request_stands_on_top(fake: Fake, visit: Any) -> None:
    """Also of those that came in one frame; the slowest does, if that is asked for."""
    page = visit(f"{fake(three).url}/_/page#requests")
    keys = page.locator(".requests .key")
    expect(keys).to_have_text(["third", "second", "first"])
    page.get_by_test_id("requests-order").select_option("slowest")
    expect(keys).to_have_text(["second", "first", "third"])


def test_the_parts_of_a_bar_are_the_parts_of_the_time(fake: Fake, visit: Any) -> None:
    """In words, too; what no part accounts for is said to be the rest, and a refusal stands out."""
    page = visit(f"{fake(three).url}/_/page#requests")
    put = page.locator(".requests li").nth(2)
    expect(put.locator(".stack")).to_have_attribute(
        "aria-label", "queue 1.0 ms, persist 4.0 ms, replicate 2.0 ms, apply 0.50 ms, rest 0.50 ms"
    )
    assert put.locator(".part-2").evaluate("part => part.style.width") == "50%"
    assert put.locator(".stack").evaluate("bar => bar.style.width") == "50%"  # half of what the slowest took
    expect(page.locator(".requests li").nth(1)).to_have_attribute("data-bad", "")
    expect(page.get_by_test_id("requests")).to_contain_text(
        "Of the last 1 write, half took 8.0 ms or less: queue 1.0 ms"
    )


def test_the_list_stands_still_while_it_is_read(fake: Fake, visit: Any) -> None:
    """Under load it would change under one's eyes."""
    page = visit(f"{fake(frames.small).url}/_/page#requests")
    first = page.locator(".requests li").first
    first.focus()
    expect(page.get_by_test_id("requests")).to_contain_text("The list stands still while you are in it.")
    told = first.inner_text()
    sent = page.get_by_test_id("wal-1").locator(".note").inner_text()
    expect(page.get_by_test_id("wal-1").locator(".note")).not_to_have_text(sent)  # time has passed
    assert first.inner_text() == told
    first.blur()
    expect(page.get_by_test_id("requests")).not_to_contain_text("stands still")
    expect(first).not_to_have_text(told)


def test_the_segments_of_the_log(fake: Fake, visit: Any) -> None:
    """As many as there are, as long as they are."""
    page = visit(f"{fake(frames.small).url}/_/page#requests")
    disk = page.get_by_test_id("wal-2")
    expect(disk).to_contain_text("4 segments, 201 MiB")
    expect(disk.locator(".part")).to_have_count(4)
    expect(disk.locator(".part").first).to_have_attribute("title", "0000000000000000.wal, 64 MiB")

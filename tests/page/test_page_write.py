"""The panel: put, get, delete, and a burst that is bounded, can be stopped, and ends when the node fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.page import frames
from tests.page.browsing import expect
from tests.page.fake_feed import FakeNodes
from tests.server.local_nodes import eventually

Fake = Callable[..., FakeNodes]


def test_a_key_is_put_read_and_deleted(fake: Fake, visit: Any) -> None:
    """Keys are what one types: a slash separates nothing, and no character means something."""
    visit.forgive("404")  # the browser's own line about the key that is gone
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    answer = page.get_by_test_id("write-answer")
    page.get_by_test_id("write-key").fill("a b/ü?#")
    page.get_by_test_id("write-value").fill("naïve <b>")
    page.get_by_test_id("write-value").press("Enter")
    expect(answer).to_contain_text("Written")
    assert nodes.store == {"/a%20b/%C3%BC%3F%23": "naïve <b>".encode()}
    page.get_by_test_id("write-get").click()
    expect(answer).to_contain_text("a b/ü?# is “naïve <b>”, 10 bytes.")
    page.get_by_test_id("write-delete").click()
    expect(answer).to_contain_text("Deleted")
    page.get_by_test_id("write-get").click()
    expect(answer).to_contain_text("There is no key a b/ü?#.")
    assert nodes.store == {}


def begin(page: Any, **told: int | str) -> None:
    """Fills the burst's form and starts it."""
    for name, value in told.items():
        control = page.get_by_test_id(f"burst-{name.replace('_', '-')}")
        control.select_option(value) if name in ("mix", "order") else control.fill(str(value))
    page.get_by_test_id("burst-start").click()


def test_a_burst_writes_what_was_chosen(fake: Fake, visit: Any) -> None:
    """So many keys, in their order, with values of that size, never more than four at a time."""
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    begin(page, writes=300, keys=120, size=64, order="ascending")
    expect(page.get_by_test_id("burst-told")).to_contain_text("Done. 300 of 300 (100%)")
    assert sorted(nodes.store) == [f"/burst/{n:06}" for n in range(120)]
    assert {len(value) for value in nodes.store.values()} == {64}
    assert nodes.writing_most <= 4
    expect(page.get_by_test_id("burst-stop")).to_be_hidden()


def test_a_burst_is_stopped(fake: Fake, visit: Any) -> None:
    """At once, though requests hang; nothing is sent any more."""
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    nodes.free.clear()
    begin(page, writes=100_000)
    eventually("four writes wait", lambda: nodes.writing == 4)
    page.get_by_test_id("burst-stop").click()
    expect(page.get_by_test_id("burst-told")).to_contain_text("Stopped. 0 of 100,000")
    nodes.free.set()
    eventually("they are let go", lambda: nodes.writing == 0)
    assert len(nodes.store) <= 4
    expect(page.get_by_test_id("burst-start")).to_be_focused()


def test_a_burst_gives_up(fake: Fake, visit: Any) -> None:
    """It says why, and doesn't knock for ever at a node that is gone."""
    visit.forgive("net::ERR")
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    expect(page.get_by_test_id("write")).to_contain_text("Through node 1")
    nodes.end(1)
    begin(page, writes=100_000)
    expect(page.get_by_test_id("burst-told")).to_contain_text("Given up after 20 failures in a row")
    expect(page.get_by_test_id("burst-told")).to_contain_text("the node can't be reached")


def test_numbers_beyond_the_bounds_are_refused(fake: Fake, visit: Any) -> None:
    """By the browser, before anything is sent."""
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    begin(page, writes=10_000_000)
    assert not page.get_by_test_id("burst-writes").evaluate("input => input.validity.valid")
    expect(page.get_by_test_id("burst-stop")).to_be_hidden()
    assert nodes.store == {}

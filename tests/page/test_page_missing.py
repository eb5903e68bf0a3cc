"""On a learner's own packages the page says which engines aren't built yet; on all others nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.page import frames
from tests.page.browsing import Visits, expect


def test_an_engine_that_is_not_built_is_named_with_its_chapter(visit: Visits, fake: Callable[..., Any]) -> None:
    nodes = fake(frames.small)
    nodes.missing = [["btree", 11, "Pages"]]
    page = visit(f"{nodes.url}/_/page")
    expect(page.get_by_test_id("missing")).to_have_text("The engine btree isn't built yet. Chapter 11 does: Pages.")


def test_with_everything_built_nothing_is_said(visit: Visits, fake: Callable[..., Any]) -> None:
    page = visit(f"{fake(frames.small).url}/_/page")
    expect(page.get_by_test_id("view-cluster")).to_be_visible()
    expect(page.get_by_test_id("missing")).to_have_count(0)

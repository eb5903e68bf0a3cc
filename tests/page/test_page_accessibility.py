"""Who uses a keyboard, a screen reader, a phone, or a dark screen gets the same page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.page import frames
from tests.page.browsing import PHONE, expect
from tests.page.fake_feed import FakeNodes

Fake = Callable[..., FakeNodes]
TEXT_CONTRAST = 4.5  # WCAG 2.2, 1.4.3

# every text that is seen, with its colour and what is under it: transparent grounds are looked through
CONTRASTS = """() => {
  const number = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const parts = number(getComputedStyle(each).backgroundColor);
      if (parts.length === 3 || parts[3] === 1) return parts;
    }
    return [255, 255, 255];
  };
  const light = (parts) => {
    const [r, g, b] = parts.slice(0, 3).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.namespaceURI.endsWith("svg") || !element.checkVisibility() || element.closest(":disabled, .old")) continue;
    const [one, other] = [light(number(getComputedStyle(element).color)), light(ground(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([contrast, element.textContent.slice(0, 40), element.className]);
  }
  return found;
}"""

# controls without a name, pictures without a sentence, ids twice
UNNAMED = """() => {
  const named = (element) => element.getAttribute("aria-label") || element.textContent.trim() || element.title
    || (element.labels && element.labels.length) || document.getElementById(element.getAttribute("aria-labelledby"))
    || element.querySelector(":scope > title")?.textContent;
  const found = [...document.querySelectorAll("button, a, input, select, [role=button], [role=img], [role=group], [tabindex]:not(main, td, li)")]
    .filter((element) => element.checkVisibility() && !named(element)).map((element) => element.outerHTML.slice(0, 120));
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  return found.concat(ids.filter((id, at) => ids.indexOf(id) !== at));
}"""


def views(page: Any) -> list[str]:
    """The ids of all views that have a tab."""
    expect(page.get_by_role("tab").first).to_be_visible()
    return [tab.get_attribute("href").removeprefix("#") for tab in page.get_by_role("tab").all()]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_text_can_be_read(fake: Fake, visit: Any, colours: str) -> None:
    """Against what is under it, in both sets of colours."""
    page = visit(f"{fake(frames.small).url}/_/page", color_scheme=colours)
    for view in views(page):
        page.goto(f"{page.url.partition('#')[0]}#{view}")
        expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
        expect(page.get_by_test_id("write")).to_contain_text("Through node 1")
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 20
        assert [text for text in contrasts if text[0] < TEXT_CONTRAST] == []


def test_everything_has_a_name(fake: Fake, visit: Any) -> None:
    """A screen reader says what each control and picture is; no id stands for two things."""
    page = visit(f"{fake(frames.small).url}/_/page")
    for view in views(page):
        page.goto(f"{page.url.partition('#')[0]}#{view}")
        expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
        expect(page.get_by_test_id("write")).to_contain_text("Through node 1")
        assert page.evaluate(UNNAMED) == []


def test_tabs_are_gone_through_with_arrows(fake: Fake, visit: Any) -> None:
    """As in every tab list; the address follows, and going back leads back."""
    page = visit(f"{fake(frames.small).url}/_/page")
    page.get_by_role("tab", name="Cluster").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Log")).to_be_focused()
    expect(page.get_by_role("tab", name="Log")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_test_id("view-log")).to_be_visible()
    expect(page).to_have_url(re.compile("#log$"))
    expect(page).to_have_title("Log · metcd")
    page.keyboard.press("End")
    expect(page.get_by_role("tab").last).to_be_focused()
    page.keyboard.press("Home")
    expect(page.get_by_test_id("view-cluster")).to_be_visible()
    page.go_back()
    expect(page.get_by_test_id("view-cluster")).not_to_be_attached()


def test_the_first_key_leads_to_the_picture(fake: Fake, visit: Any) -> None:
    """A keyboard needn't go through the header each time."""
    page = visit(f"{fake(frames.small).url}/_/page")
    expect(page.get_by_test_id("view-cluster")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the picture")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel")).to_be_focused()
    expect(page.get_by_test_id("view-cluster")).to_be_visible()


def test_a_node_of_the_ring_is_chosen_with_the_keyboard(fake: Fake, visit: Any) -> None:
    """And the header shows it."""
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    page.get_by_test_id("ring-node-2").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id(f"node-{nodes.ports[2]}")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("ring-node-2")).to_have_attribute("aria-pressed", "true")


def test_each_picture_says_what_it_is(fake: Fake, visit: Any) -> None:
    """Two sentences and the chapter, when one asks; and which leader there is, without being asked."""
    page = visit(f"{fake(frames.small).url}/_/page")
    ask = page.get_by_test_id("cluster-ring-what")
    expect(ask).to_have_attribute("aria-expanded", "false")
    ask.click()
    expect(ask).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_test_id("cluster-ring")).to_contain_text(
        "Chapter 15 of the tutorial builds it: Raft: elections."
    )
    expect(page.locator("#status")).to_have_text("Node 1 leads in term 3.")


def test_chapters_are_called_as_the_tutorial_calls_them(fake: Fake, visit: Any) -> None:
    """What a picture says of a chapter is its number and its title."""
    from tutorial.learn.course import load

    titles = {f"Chapter {chapter.number} of the tutorial builds it: {chapter.title}." for chapter in load().chapters}
    page = visit(f"{fake(frames.small).url}/_/page")
    said = set()
    for view in views(page):
        page.goto(f"{page.url.partition('#')[0]}#{view}")
        expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
        said.update(page.locator(".chapter").all_text_contents())
    assert said and said <= titles


def test_a_phone_shows_all_of_it_without_scrolling_sideways(fake: Fake, visit: Any) -> None:
    """320 pixels: WCAG 2.2, 1.4.10. Wide tables scroll within their box."""
    page = visit(f"{fake(frames.small).url}/_/page", viewport=PHONE)
    for view in views(page):
        page.goto(f"{page.url.partition('#')[0]}#{view}")
        expect(page.get_by_test_id(f"view-{view}")).to_be_visible()
        expect(page.get_by_test_id("write")).to_contain_text("Through node 1")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]

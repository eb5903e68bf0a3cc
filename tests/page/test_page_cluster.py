"""The cluster's picture: who leads, what is on its way, and what is seen when a node can't be heard."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from server.client import Client
from server.cluster import LocalCluster
from tests.page import frames
from tests.page.browsing import expect
from tests.page.fake_feed import FakeNodes

Fake = Callable[..., FakeNodes]


def test_the_nodes_and_their_roles_are_seen(fake: Fake, visit: Any) -> None:
    """In the header, on the ring, and in the table, which says the same."""
    page = visit(f"{fake(frames.small).url}/_/page")
    expect(page.get_by_test_id("ring-node-1")).to_have_attribute("data-role", "leader")
    expect(page.get_by_test_id("ring-node-3")).to_have_attribute("data-role", "follower")
    expect(page.get_by_test_id("cluster-ring")).to_contain_text("Node 1 leads in term 3; 3 of 3 nodes are heard.")
    expect(page.get_by_test_id("members").locator("tbody tr")).to_have_count(3)
    expect(page.get_by_role("button", name=re.compile("^node 1"))).to_have_count(2)


def test_messages_are_shapes_on_the_lines(fake: Fake, visit: Any) -> None:
    """Each of them because a frame said that it was sent."""
    page = visit(f"{fake(frames.small).url}/_/page")
    dots = page.get_by_test_id("messages")
    expect(dots.locator(".append:not(.reply)").first).to_be_attached()
    expect(dots.locator(".append.reply").first).to_be_attached()
    expect(dots.locator(".heartbeat").first).to_be_attached()
    expect(dots.locator(".vote")).to_have_count(0)


def test_nothing_moves_for_who_asked_for_less_motion(fake: Fake, visit: Any) -> None:
    """The messages are said in words instead."""
    page = visit(f"{fake(frames.small).url}/_/page", reduced_motion="reduce")
    expect(page.get_by_test_id("message-rates")).to_contain_text("MsgApp")
    expect(page.get_by_test_id("messages").locator(".shape")).to_have_count(0)


def test_a_node_that_is_lost_is_shown_as_lost(fake: Fake, visit: Any) -> None:
    """Its last numbers stay; and it is heard again as soon as it is back."""
    visit.forgive("net::ERR")
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    expect(page.get_by_test_id("ring-node-3")).to_have_attribute("data-role", "follower")
    nodes.end(3)
    expect(page.get_by_test_id("ring-node-3")).to_have_attribute("data-role", "lost")
    expect(page.get_by_test_id("cluster-ring")).to_contain_text("2 of 3 nodes are heard")
    expect(page.get_by_test_id("ring-node-3")).to_contain_text("applied")
    nodes.begin(3)
    expect(page.get_by_test_id("ring-node-3")).to_have_attribute("data-role", "follower")


def test_a_node_without_frames_is_silent(fake: Fake, visit: Any) -> None:
    """A paused process keeps its connections."""
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    expect(page.get_by_test_id("ring-node-2")).to_have_attribute("data-role", "follower")
    nodes.paused.add(2)
    expect(page.get_by_test_id("ring-node-2")).to_have_attribute("data-role", "silent")
    nodes.paused.clear()
    expect(page.get_by_test_id("ring-node-2")).to_have_attribute("data-role", "follower")


def test_a_hidden_page_watches_nothing(fake: Fake, visit: Any) -> None:
    """Or ten forgotten tabs would be ten viewers."""
    nodes = fake(frames.small)
    page = visit(f"{nodes.url}/_/page")
    expect(page.get_by_test_id("ring-node-1")).to_have_attribute("data-role", "leader")
    page.evaluate(
        """() => {
        Object.defineProperty(document, "hidden", {configurable: true, get: () => true});
        document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    nodes.wait_for_viewers(0)
    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    nodes.wait_for_viewers(3)


def test_a_killed_leader_is_followed_by_another(cluster: LocalCluster, client: Client, visit: Any) -> None:
    """Three real nodes: what the page says of them is what they say themselves, before, meanwhile and after."""
    visit.forgive("net::ERR")
    visit.allow(*[node.url for node in cluster.nodes])
    leader = client.status()["leader"]
    watched = next(node for node in cluster.nodes if node.id != leader)
    page = visit(f"{watched.url}/_/page")
    expect(page.get_by_test_id(f"ring-node-{leader}")).to_have_attribute("data-role", "leader")
    process = cluster.processes[leader]
    process.kill()
    process.wait()
    expect(page.get_by_test_id(f"ring-node-{leader}")).to_have_attribute("data-role", "lost")
    expect(page.locator(f'.node[data-role="leader"]:not([data-testid="ring-node-{leader}"])')).to_have_count(1)
    page.get_by_test_id("write-put").click()
    expect(page.get_by_test_id("write-answer")).to_contain_text("Written as entry")
    assert client.get(b"hello") == b"world"
    assert [node.id for node in cluster.dead()] == [leader]
    cluster.start_node(cluster.nodes[leader - 1])
    cluster.wait_until_healthy()
    expect(page.get_by_test_id(f"ring-node-{leader}")).to_have_attribute("data-role", "follower")
    page.get_by_role("tab", name="Log").click()
    applied = f"{client.status()['applied_index']:,}"
    expect(page.get_by_test_id("log-where").locator("tbody tr").nth(leader - 1).locator("td").nth(4)).to_have_text(
        applied
    )
    expect(page.get_by_test_id("log-cells")).to_contain_text("all nodes have it")

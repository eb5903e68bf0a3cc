"""The lab on the page: what is clicked is done to real nodes, and seen on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from server.client import Client
from server.cluster import LocalCluster
from server.errors import NodeError
from server.lab import Lab
from server.lab_port import LabPort
from tests.page.browsing import PHONE, expect
from tests.server.local_nodes import cluster_port, eventually

ENGINES = ["lsm", "btree", "bitcask"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, Lab, LabPort]]:
    """A cluster with a lab, as `metcd cluster --lab` has it."""
    port = cluster_port()
    with LocalCluster(ENGINES, str(tmp_path_factory.mktemp("cluster")), port) as cluster:
        cluster.say = lambda line: None
        with Lab(cluster, port - 1) as lab:
            lab.say = cluster.say
            lab_port = LabPort(lab, ("127.0.0.1", port - 1), [node.url for node in cluster.nodes])
            lab_port.start()
            cluster.start()
            cluster.wait_until_healthy()
            yield cluster, lab, lab_port
            lab_port.stop()


@pytest.fixture
def lab(broken: tuple[LocalCluster, Lab, LabPort]) -> Lab:
    """The lab, with a cluster that is whole and well."""
    cluster, lab, _ = broken
    for a, b in lab.state()["cut"]:
        lab.cut(a, b, cut=False, one_way=True)
    for node_id in (1, 2, 3):
        process = lab.process_of(node_id)
        if process == "paused":
            lab.resume(node_id)
        elif process == "dead":
            lab.start(node_id)
        lab.slow_disk(node_id, 0.0)
    cluster.wait_until_healthy()
    leading(cluster)
    return lab


@pytest.fixture
def open_lab(broken: tuple[LocalCluster, Lab, LabPort], lab: Lab, visit: Any) -> Any:
    """Opens the address that the command prints, of node `at`."""
    cluster, _, lab_port = broken
    visit.allow(lab_port.url, *(node.url for node in cluster.nodes))

    def open_it(at: int = 1, token: str = lab_port.token, **options: Any) -> Any:
        page = visit(f"{cluster.nodes[at - 1].url}/_/page#lab={lab_port.url}&token={token}", **options)
        if token == lab_port.token:
            expect(page.get_by_test_id("lab-process")).to_contain_text("is running")
            for node_id in (1, 2, 3):
                expect(page.get_by_test_id(f"ring-node-{node_id}")).to_have_attribute(
                    "data-role", re.compile("leader|follower")
                )
        return page

    return open_it


@pytest.fixture
def cluster(broken: tuple[LocalCluster, Lab, LabPort]) -> LocalCluster:
    return broken[0]


def status(cluster: LocalCluster, node_id: int) -> dict[str, Any]:
    """What a node says of itself; {} if it doesn't answer."""
    try:
        with Client([cluster.nodes[node_id - 1].url], timeout_s=1.0) as client:
            return client.status()
    except NodeError:
        return {}


def leading(cluster: LocalCluster, *among: int) -> int:
    """The node that these, by default all, say that leads."""

    def agreed() -> int:
        leaders = {status(cluster, node_id).get("leader", 0) for node_id in among or (1, 2, 3)}
        return int(leaders.pop()) if len(leaders) == 1 else 0

    return int(eventually("they agree on a leader", agreed))


def others(node_id: int) -> list[int]:
    return [other for other in (1, 2, 3) if other != node_id]


def ring(page: Any, node_id: int) -> Any:
    return page.get_by_test_id(f"ring-node-{node_id}")


def test_clicks_cut_the_leaders_links_another_node_leads_writes_go_on_and_the_healed_one_catches_up(
    cluster: LocalCluster, open_lab: Any, keep: Any
) -> None:
    """All that is seen is what the nodes tell: node `at`, whose page this is, is a follower."""
    old = leading(cluster)
    at, third = others(old)
    page = open_lab(at)
    expect(ring(page, old)).to_have_attribute("data-role", "leader")
    for other in others(old):
        link = page.get_by_test_id(f"link-{min(old, other)}-{max(old, other)}")
        link.dispatch_event("click")
        expect(link).to_have_attribute("data-state", "cut")
    expect(page.locator('.node[data-role="leader"]')).to_have_count(1)
    expect(ring(page, old)).not_to_have_attribute("data-role", "leader")
    new = leading(cluster, at, third)
    expect(ring(page, new)).to_have_attribute("data-role", "leader")
    keep(page, "lab-cut")

    page.get_by_test_id("write-key").fill("during")
    page.get_by_test_id("write-value").fill("the cut")
    page.get_by_test_id("write-put").click()
    expect(page.get_by_test_id("write-answer")).to_contain_text("Written as entry")
    index = int(re.search(r"entry ([\d,]+)", page.get_by_test_id("write-answer").inner_text())[1].replace(",", ""))
    with Client([cluster.nodes[old - 1].url]) as behind:
        assert behind.get(b"during", consistency="stale") is None
        assert behind.status()["applied_index"] < index
        page.get_by_test_id("lab-heal").click()
        for other in others(old):
            link = page.get_by_test_id(f"link-{min(old, other)}-{max(old, other)}")
            expect(link).to_have_attribute("data-state", "whole")
        expect(ring(page, old)).to_have_attribute("data-role", "follower")
        applied = page.get_by_test_id("members").locator("tbody tr").nth(old - 1).locator("td").nth(6)
        eventually("the page shows it", lambda: int(applied.inner_text().replace(",", "")) >= index)
        assert behind.get(b"during", consistency="stale") == b"the cut"


def test_a_node_is_killed_and_started_by_click(cluster: LocalCluster, open_lab: Any, visit: Any, keep: Any) -> None:
    """Its page's own node is another one. Its stream breaks, which the browser notes in the console."""
    visit.forgive("net::ERR")
    victim = leading(cluster)
    page = open_lab(others(victim)[0])
    before = status(cluster, victim)["pid"]
    ring(page, victim).locator(".id").click()  # the middle of the whole may be between its circle and its words
    expect(page.get_by_test_id("lab-process")).to_have_text(f"Node {victim} is running.")
    page.get_by_test_id("lab-kill").click()
    expect(page.get_by_test_id("lab-process")).to_have_text(f"Node {victim} is dead.")
    expect(ring(page, victim)).to_have_attribute("data-role", "dead")
    expect(page.locator('.node[data-role="leader"]')).to_have_count(1)
    assert status(cluster, victim) == {}
    keep(page, "lab-killed")
    page.get_by_test_id("lab-kill").click()
    expect(ring(page, victim)).to_have_attribute("data-role", "follower")
    assert status(cluster, victim)["pid"] != before


def test_a_node_is_paused_and_goes_on_by_click(cluster: LocalCluster, open_lab: Any, visit: Any) -> None:
    visit.forgive("net::ERR")
    victim = others(leading(cluster))[1]
    page = open_lab(leading(cluster))
    page.get_by_test_id(f"lab-node-{victim}").click()
    page.get_by_test_id("lab-pause").click()
    expect(page.get_by_test_id("lab-process")).to_have_text(f"Node {victim} is paused.")
    expect(ring(page, victim)).to_have_attribute("data-role", "paused")
    expect(page.get_by_test_id("lab-compact")).to_be_disabled()
    page.get_by_test_id("lab-pause").click()
    expect(page.get_by_test_id("lab-process")).to_have_text(f"Node {victim} is running.")
    expect(ring(page, victim)).to_have_attribute("data-role", "follower")


def test_a_slow_disk_is_seen_in_the_time_of_requests(cluster: LocalCluster, lab: Lab, open_lab: Any, keep: Any) -> None:
    """Of a write, which waits for the disks of two nodes: so two of three would do."""
    leader = leading(cluster)
    page = open_lab(leader)
    for node_id in (1, 2, 3):
        page.get_by_test_id(f"lab-node-{node_id}").click()
        page.get_by_test_id("lab-disk").select_option("0.2")
        eventually("it is told", lambda at=node_id: lab.state()["nodes"][str(at)]["sync_delay_s"] == 0.2)
    page.get_by_test_id("write-put").click()
    answer = page.get_by_test_id("write-answer")
    expect(answer).to_contain_text("Written as entry")
    page.get_by_test_id("write-put").click()
    expect(answer).to_contain_text(re.compile(r"\((2\d\d|[3-9]\d\d) ms\)|\(\d\.\d s\)"))
    page.get_by_test_id("tab-requests").click()
    expect(page.locator(".requests .took").first).to_have_text(re.compile(r"([2-9]\d\d ms|\d\.\d s)"))
    keep(page, "lab-slow-disk")


def test_the_leadership_is_sent_and_given_up_by_click(cluster: LocalCluster, open_lab: Any) -> None:
    target = others(leading(cluster))[0]
    page = open_lab(1)
    page.get_by_test_id(f"lab-node-{target}").click()
    page.get_by_test_id("lab-lead").click()
    expect(ring(page, target)).to_have_attribute("data-role", "leader")
    term = status(cluster, target)["term"]
    expect(page.get_by_test_id("lab-elect")).to_have_text("Step down")
    page.get_by_test_id("lab-elect").click()
    eventually("there is another election", lambda: status(cluster, target).get("term", 0) > term and leading(cluster))
    expect(page.locator('.node[data-role="leader"]')).to_have_count(1)
    page.get_by_test_id("lab-compact").click()
    expect(page.get_by_test_id("lab-answer")).to_have_text("")


def test_one_direction_of_a_link_and_a_whole_node_are_cut_with_the_keyboard(
    cluster: LocalCluster, lab: Lab, open_lab: Any
) -> None:
    page = open_lab(1)
    way = page.get_by_test_id("lab-way-2-3")
    way.focus()
    page.keyboard.press("Enter")
    expect(way).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("lab-way-3-2")).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_test_id("link-2-3")).to_have_attribute("data-state", "half")
    page.get_by_test_id("link-2-3").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("link-2-3")).to_have_attribute("data-state", "whole")
    page.get_by_test_id("lab-node-3").click()
    page.get_by_test_id("lab-isolate").click()
    expect(page.get_by_test_id("lab-process")).to_have_text("Node 3 is running, and cut off from all others.")
    assert lab.state()["cut"] == [[1, 3], [2, 3], [3, 1], [3, 2]]
    page.get_by_test_id("lab-isolate").click()
    expect(page.get_by_test_id("lab-process")).to_have_text("Node 3 is running.")


def test_the_token_leaves_the_address_bar_and_stays_in_the_tab(
    cluster: LocalCluster, broken: tuple[LocalCluster, Lab, LabPort], open_lab: Any
) -> None:
    page = open_lab(1)
    token = broken[2].token
    assert token not in page.url and "lab" not in page.url
    page.reload()
    expect(page.get_by_test_id("lab-process")).to_contain_text("is running")
    assert token not in page.content()


def test_with_a_wrong_token_the_page_says_so_once(open_lab: Any, visit: Any) -> None:
    visit.forgive("401")
    page = open_lab(1, token="wrong")
    expect(page.get_by_test_id("lab-answer")).to_contain_text("This token is of an earlier start")


def test_without_a_lab_there_is_no_panel(cluster: LocalCluster, lab: Lab, visit: Any) -> None:
    visit.allow(*(node.url for node in cluster.nodes))
    page = visit(f"{cluster.nodes[0].url}/_/page")
    expect(ring(page, 1)).to_have_attribute("data-role", re.compile("leader|follower"))
    expect(page.get_by_test_id("lab")).to_have_count(0)
    expect(page.get_by_test_id("link-1-2")).not_to_have_attribute("role", "button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_how_it_looks(open_lab: Any, keep: Any, scheme: str) -> None:
    page = open_lab(1, color_scheme=scheme)
    keep(page, f"lab-{scheme}")
    page.set_viewport_size(PHONE)
    expect(page.locator("html")).to_have_js_property("scrollWidth", PHONE["width"])
    keep(page, f"lab-{scheme}-narrow")

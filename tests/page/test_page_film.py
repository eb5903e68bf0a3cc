"""A run as a film, in a browser: from mark to mark, to the broken property, to another end; quick with 10,000 events."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft.interaction import parse_script
from raft.interaction.film import film_of_script
from raft.simulation.film.make import film_of, lines_of, page_of
from raft.simulation.plan import USUAL, Profile, draw_as
from raft.simulator import plan_of, run
from tests.page.browsing import PHONE, Visits, expect
from tests.raft.mutants import MUTANTS, planted

SCRIPTS = Path(__file__).parents[1] / "raft" / "scripts"


@pytest.fixture
def show(visit: Visits, tmp_path: Path) -> Callable[..., Any]:
    """Opens a film in the browser, from a file."""

    def opened(data: dict[str, Any], place: str = "", **options: Any) -> Any:
        file = tmp_path / "film.html"
        file.write_text(page_of(data), "utf-8")
        page = visit(f"{file.as_uri()}{place}", **options)
        expect(page.get_by_test_id("headline")).not_to_be_empty()
        return page

    return opened


@pytest.fixture(scope="module")
def calm() -> dict[str, Any]:
    """A run without faults of the library, with other ends."""
    return film_of(plan_of(5, "crashes"), run, title="a run", words="python -m raft.simulator --seed 5", forks=3)


@pytest.fixture(scope="module")
def broken() -> dict[str, Any]:
    """A run of a library that gives its vote to any log, made small."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == "vote_goes_to_any_log"]
    with planted(mutant) as simulator:
        plan = next(plan for seed in range(400) if simulator.violation_of(plan := simulator.plan_of(seed)))
        made = simulator.film_of(plan, simulator.run, title="a planted bug", words="", forks=1)
    data: dict[str, Any] = json.loads(json.dumps(made))
    return data


def place(page: Any) -> int:
    """The moment that is shown, from the address."""
    return int(page.evaluate("location.hash").lstrip("#").partition("/")[0])


def places(data: dict[str, Any], what: str) -> list[int]:
    """Where a film's elections, or its commits, are; counted here, from its JSON."""
    found, commit = [], 0
    for number, moment in enumerate(data["moments"]):
        changes = list(moment[5].values())
        highest = max([commit, *(one["commit"] for one in changes if "commit" in one)])
        if any(one.get("role") == "leader" for one in changes) if what == "election" else highest > commit:
            found.append(number)
        commit = highest
    return found


def at(page: Any, number: int) -> None:
    """Waits until this moment is shown."""
    page.wait_for_function("number => location.hash.replace(/[/].*/, '') === `#${number}`", arg=number)


def test_a_film_of_a_planted_bug_opens_at_the_broken_property(show: Callable[..., Any], broken: dict[str, Any]) -> None:
    """Said in a sentence, with the node that leads without what was committed; and one finds the way back to it."""
    page = show(broken)
    at(page, len(broken["moments"]) - 1)
    expect(page.get_by_test_id("violation")).to_contain_text(broken["violation"])
    expect(page.get_by_test_id("effects")).to_contain_text(broken["violation"])
    expect(page.get_by_test_id("code")).to_contain_text("self.state = STATE_LEADER")
    page.keyboard.press("Home")
    at(page, 0)
    expect(page.get_by_test_id("effects")).not_to_contain_text(broken["violation"])
    page.get_by_test_id("next-broken").click()
    at(page, len(broken["moments"]) - 1)


@pytest.mark.parametrize(("kind", "key"), [("election", "e"), ("commit", "c")])
def test_to_the_next_one_and_back(show: Callable[..., Any], calm: dict[str, Any], kind: str, key: str) -> None:
    """By button and by key, through the first three; what the step says is what happened."""
    page = show(calm, "#0")
    expected = [number for number in places(calm, kind) if number > 0][:3]
    for number in expected:
        page.get_by_test_id(f"next-{kind}").click()
        at(page, number)
        expect(page.get_by_test_id("effects")).to_contain_text("leads" if kind == "election" else "as committed")
    page.locator("body").press(key.upper())
    at(page, expected[1])
    page.locator("body").press(key)
    at(page, expected[2])


def test_each_step_shows_what_the_film_has(show: Callable[..., Any], calm: dict[str, Any]) -> None:
    """The nodes' states and logs at a step, recounted from the JSON."""
    data = json.loads(json.dumps(calm))
    number = places(data, "commit")[4]
    page = show(calm, f"#{number}")
    states: dict[str, dict[str, Any]] = {str(node): {} for node in data["nodes"]}
    for moment in data["moments"][: number + 1]:
        for node, changes in moment[5].items():
            states[node].update(changes)
    for row, (node, state) in enumerate(sorted(states.items())):
        cells = page.get_by_test_id("logs").locator("tbody tr").nth(row).locator("th, td").all_inner_texts()
        facts = [
            state["role"] if state["up"] else "down",
            state["term"],
            state["vote"],
            state["commit"],
            state["applied"],
        ]
        assert cells[0] == f"node {node}"
        assert [cells[1], *(int(cell) if cell.isdigit() else 0 for cell in cells[2:6])] == facts
        first, last, runs = state["log"]
        terms = [[term for begin, term in runs if begin <= index][-1] for index in range(first, last + 1)]
        shown = [int(cell) for cell in cells[6:] if cell.isdigit()]
        assert 0 < len(shown) <= len(terms)
        assert shown == terms[-len(shown) :]
    lines = page.get_by_test_id("lines").inner_text().splitlines()
    assert lines == [f"node {node}  {text}" for node, text in data["moments"][number][4]]


def test_forward_back_and_play(show: Callable[..., Any], calm: dict[str, Any]) -> None:
    page = show(calm, "#0")
    page.get_by_test_id("on").click()
    page.wait_for_function("() => !location.hash.startsWith('#0')")
    second = place(page)
    page.get_by_test_id("back").click()
    at(page, 0)
    page.locator("body").press("ArrowRight")
    at(page, second)
    page.locator("#speed").select_option("60")
    page.get_by_test_id("play").click()
    expect(page.get_by_test_id("play")).to_have_text("pause")
    page.wait_for_function("start => Number(location.hash.slice(1)) > start + 5", arg=second)
    page.get_by_test_id("play").click()
    expect(page.get_by_test_id("play")).to_have_text("play")


def test_the_list_of_steps_follows_and_leads(show: Callable[..., Any], calm: dict[str, Any]) -> None:
    """A row that is clicked is shown; a screen reader is told which row of how many is chosen."""
    page = show(calm, "#0")
    rows = page.get_by_test_id("list").get_by_role("option")
    rows.nth(4).click()
    expect(page.get_by_test_id("list").get_by_role("option", selected=True)).to_have_attribute("aria-posinset", "5")
    number = places(calm, "election")[-1]
    page.locator("#slider").evaluate(
        "slider => { slider.value = slider.max; slider.dispatchEvent(new Event('input')); }"
    )
    chosen = page.get_by_test_id("list").get_by_role("option", selected=True)
    page.locator("#list-part").evaluate("part => part.scrollIntoView({block: 'end'})")
    expect(chosen).to_be_in_viewport()
    assert chosen.get_attribute("aria-posinset") == chosen.get_attribute("aria-setsize")
    assert place(page) > number


def test_another_end_is_one_click_away(show: Callable[..., Any], calm: dict[str, Any]) -> None:
    """It begins where the run has what was taken away, says what that is, and how it ends; and there is a way back."""
    page = show(calm, "#0")
    for number, fork in enumerate(calm["forks"]):
        page.get_by_test_id(f"fork-{number}").click()
        expect(page.get_by_test_id("watching")).to_contain_text("Another end: ")
        expect(page.get_by_test_id("watching")).to_contain_text(f"{fork['ended']['commit']} entries are committed")
        page.keyboard.press("End")
        at(page, fork["same_moments"] + len(fork["moments"]) - 1)
    page.locator("#back").click()
    expect(page.get_by_test_id("watching")).to_be_hidden()


def test_a_step_shows_the_command_that_takes_its_message_away(show: Callable[..., Any], calm: dict[str, Any]) -> None:
    number, message = next((n, m) for n, m in enumerate(calm["messages"], 1) if m[8] == 1 and m[2] == "MsgVoteResp")
    page = show(calm, f"#{message[7]}")
    expect(page.get_by_test_id(f"command-drop-{number}")).to_have_text(
        f"python -m raft.simulator --seed 5 --drop {number} --html other.html"
    )


def test_a_script_is_told_with_its_comments(show: Callable[..., Any]) -> None:
    """Figure 8 of the paper, with the words of the script."""
    file = SCRIPTS / "05_figure_8.txt"
    data = film_of_script(parse_script(file.name, file.read_text("utf-8")), random.Random(0), file.name)
    page = show(data, "#0")
    for _ in range(3):
        page.get_by_test_id("next-election").click()
    expect(page.get_by_test_id("story")).to_contain_text("Node 5 is elected in term 3")
    expect(page.get_by_test_id("effects")).to_contain_text("node 5 leads")


def test_a_history_without_nodes_is_a_film_too(show: Callable[..., Any]) -> None:
    page = show(
        lines_of(["   1  store.put(b'a', b'1')", "     disk call 1", "   2  store.get(b'a')"], "a test", "found None")
    )
    expect(page.get_by_test_id("headline")).to_have_text("store.get(b'a')")
    expect(page.get_by_test_id("effects")).to_contain_text("found None")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("lines")).to_contain_text("disk call 1")
    expect(page.get_by_test_id("stage")).to_have_count(0)


def test_a_narrow_screen_has_nothing_beside_it(show: Callable[..., Any], broken: dict[str, Any]) -> None:
    """320 pixels: the page doesn't scroll sideways; wide parts do so in themselves."""
    page = show(broken, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_ten_thousand_events_stay_quick(show: Callable[..., Any]) -> None:
    """What a step draws doesn't grow with the run: the same number of elements at all of 60 steps, give or take a few, and
    no more rows than are seen. How long a frame takes is printed."""
    profile = Profile((5,), ticks=700, steps=110, drift=(0,), weights=USUAL)
    data = film_of(draw_as(1, random.Random(1), "long", profile), run, title="a long run")
    assert len(data["moments"]) >= 10_000
    page = show(data, "#0")
    times = page.evaluate(
        """async () => {
        const frame = () => new Promise(requestAnimationFrame);
        const slider = document.getElementById("slider");
        const times = [];
        for (let step = 0; step < 60; step++) {
            slider.value = Math.floor(step * slider.max / 60);
            slider.dispatchEvent(new Event("input"));
            await frame();
            const begin = performance.now();
            await frame();
            times.push([performance.now() - begin, document.querySelectorAll("*").length]);
        }
        return times;
    }"""
    )
    took = sorted(time for time, _ in times)
    print(f"{len(data['moments']):,} moments, a frame: median {took[30]:.1f} ms, slowest {took[-1]:.1f} ms")
    assert max(elements for _, elements in times) < 2_000
    assert page.get_by_test_id("list").get_by_role("option").count() < 60

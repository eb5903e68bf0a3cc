"""A run as a film: what it has is what the trace says, the page is whole, and another end is a run of the simulator."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from raft.interaction import ScriptError, parse_script
from raft.interaction.__main__ import main as scripts
from raft.interaction.film import film_of_script
from raft.simulation.film.data import film_data
from raft.simulation.film.make import SCRIPTS, film_of, lines_of, page_of
from raft.simulation.film.recorder import Film
from raft.simulation.peer import Peer
from raft.simulation.simulation import Simulation
from raft.simulation.trace import Trace
from raft.simulator import main, plan_of, run
from tests.raft.mutants import MUTANTS, planted

SEED = int(os.environ.get("METCD_SEED", "0"))
REPOSITORY = Path(__file__).parents[2]
RUNS = [(SEED * 1_000_000 + 12, "members"), (SEED * 1_000_000 + 3, "disks"), (SEED * 1_000_000 + 5, "crashes")]


def made(seed: int, profile: str | None = None, forks: int = 0) -> dict[str, Any]:
    """A film as a page would read it."""
    data = film_of(plan_of(seed, profile), run, title="a film", words="words", forks=forks)
    loaded: dict[str, Any] = json.loads(json.dumps(data))
    return loaded


def told(data: dict[str, Any]) -> list[str]:
    """The lines of a film's moments, as a trace has them."""
    return [f"{moment[0]:>10}  node {node:<3} {text}" for moment in data["moments"] for node, text in moment[4]]


def page_data(page: str) -> dict[str, Any]:
    """The JSON in a page."""
    [text] = re.findall(r'<script type="application/json" id="film">(.*?)</script>', page, re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


# ---- what a film has --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "profile"), RUNS)
def test_a_films_lines_are_those_of_the_trace(seed: int, profile: str) -> None:
    """Word for word, in order: a film adds, and leaves nothing out."""
    trace = Trace()
    run(plan_of(seed, profile), trace)
    assert told(made(seed, profile)) == trace.lines


@pytest.mark.parametrize(("seed", "profile"), RUNS)
def test_a_films_run_is_the_run_without_it(seed: int, profile: str) -> None:
    """Watching a node's calls and assignments changes neither."""
    film = Film()
    plain, filmed = run(plan_of(seed, profile)), run(plan_of(seed, profile), film)
    assert plain.history == filmed.history
    assert plain.events == filmed.events
    assert sys.getprofile() is None


@pytest.mark.parametrize(("seed", "profile"), RUNS)
def test_the_last_states_are_what_the_nodes_are_at_the_end(seed: int, profile: str) -> None:
    film = Film()
    simulation = run(plan_of(seed, profile), film)
    film.ends()
    data = film_data(film, "", "", "", [], {})
    states: dict[int, dict[str, Any]] = {node: {} for node in simulation.ids}
    for moment in data["moments"]:
        for node, changes in moment[5].items():
            states[node].update(changes)
    for node, peer in simulation.peers.items():
        raft, state = peer.node.raft, states[node]
        assert (state["term"], state["vote"], state["lead"]) == (raft.term, raft.vote, raft.lead)
        assert (state["commit"], state["applied"]) == (raft.log.committed, peer.application.index)
        assert _terms(state["log"]) == dict(peer.log())


def _terms(log: list[Any]) -> dict[int, int]:
    first, last, runs = log
    return {index: [term for begin, term in runs if begin <= index][-1] for index in range(first, last + 1)}


def test_each_message_is_where_it_was_sent_and_where_it_ended() -> None:
    """Numbers count from 1 in the order of sending; each message ends at most once, not before it was sent."""
    data = made(RUNS[0][0], "members")
    sends = [text for moment in data["moments"] for _, text in moment[4] if text.startswith("sends to ")]
    assert len(sends) == len(data["messages"])
    for source, target, kind, text, at, sent, ended_at, ended, how in data["messages"]:
        assert [source, f"sends to {target:<8} {text}"] in data["moments"][sent][4]
        assert data["moments"][sent][0] == at
        assert kind in text
        if how:
            assert sent <= ended
            assert data["moments"][ended][0] == ended_at
            word = "received from" if how == 1 else "never gets from"
            assert [target, f"{word} {source:<3} {text}"] in data["moments"][ended][4]
    assert {message[8] for message in data["messages"]} >= {1, 2}


def test_who_acted_is_named_with_its_line_and_source() -> None:
    """An election: `become_leader` changes the role, in the line that says so."""
    data = made(5, "calm")
    [place, *_] = [
        place
        for place, moment in enumerate(data["moments"])
        if any(changes.get("role") == "leader" for changes in moment[5].values())
    ]
    calls, changed = data["acts"][data["moments"][place][7]]
    names = [data["functions"][number][1] for _, number in calls]
    assert names[:2] == ["RawNode.step", "Raft.step"] or names[0] == "RawNode.advance", names
    assert "Core.become_leader" in names
    [(number, line, _)] = [one for one in changed if one[2] == "state"]
    path, name, first, source = data["functions"][number]
    assert (path, name) == ("raft/core.py", "Core.become_leader")
    assert source.splitlines()[line - first].strip() == "self.state = STATE_LEADER"
    assert (REPOSITORY / path).read_text("utf-8").splitlines()[line - 1].strip() == "self.state = STATE_LEADER"


def test_a_long_run_is_cut_at_its_beginning_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left begins with the states in which it begins, and its messages keep their numbers."""
    whole = made(5, "calm")
    kept = len(whole["moments"]) - 100
    monkeypatch.setattr("raft.simulation.film.data.MOMENTS_MAX", kept)
    cut = made(5, "calm", forks=1)
    assert cut["left_out"] == 100
    assert cut["forks"] == []
    assert told(cut) == told(whole)[-len(told(cut)) :]
    assert len(cut["messages"]) == len(whole["messages"])
    for node in whole["nodes"]:
        state: dict[str, Any] = {}
        for moment in whole["moments"][:100]:
            state.update(moment[5].get(str(node), {}))
        assert cut["base"][str(node)] == state
    for before, after in zip(whole["messages"], cut["messages"]):
        assert after[5] == max(-1, before[5] - 100)


# ---- the page ---------------------------------------------------------------------------------------------------------


def test_a_page_is_whole_and_its_policy_allows_nothing_else() -> None:
    """Style and script are those whose hashes the policy names; nothing is loaded from anywhere."""
    page = page_of(film_of(plan_of(7), run, title="<seed> & 7", words="words"))
    assert "&lt;seed&gt; &amp; 7" in page
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src 'none';")
    for text, rule in zip([style, *scripts], ("style-src", "script-src"), strict=True):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    outside = page.replace("http://www.w3.org/2000/svg", "")
    head = outside[: outside.index('id="film">')] + outside[outside.index("</script>") :]
    assert not re.findall(r"https?://|<link|<img|<iframe|\bsrc=|@import|url\((?!#)", head)
    assert " style=" not in head
    assert " onclick=" not in head


def test_what_a_run_says_can_not_end_the_page() -> None:
    page = page_of(lines_of(["   1  put('</script><script>alert(1)</script>')"], "a test"))
    assert page.count("</script>") == 2
    assert page_data(page)["moments"][0][4] == [[0, "put('</script><script>alert(1)</script>')"]]


def test_each_script_says_what_it_is_and_is_short() -> None:
    """A header comment on top, at most 300 lines; and all of them are in the page."""
    folder = files("raft.simulation.film") / "page"
    found = {entry.name for entry in folder.iterdir() if entry.name.endswith(".js")}
    assert found == {f"{name}.js" for name in SCRIPTS}
    for name in SCRIPTS:
        text = (folder / f"{name}.js").read_text("utf-8")
        assert text.startswith("/* "), name
        assert text.count("\n") <= 300, name


def test_equal_seeds_make_equal_pages_whatever_the_hash_seed(tmp_path: Path) -> None:
    """Two processes, other forks tried in another order would show."""
    pages = set()
    for hash_seed in ("1", "2"):
        words = [sys.executable, "-m", "raft.simulator", "--seed", "12", "--profile", "calm", "--forks", "1", "--html"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        file = tmp_path / f"{hash_seed}.html"
        ran = subprocess.run([*words, str(file)], cwd=REPOSITORY, env=environment, capture_output=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        pages.add(file.read_text("utf-8"))
    assert len(pages) == 1
    assert str(REPOSITORY) not in pages.pop()


def test_a_history_of_lines_is_a_film_without_nodes() -> None:
    """An operation, and what followed."""
    data = lines_of(
        ["   1  store.put(b'a', b'1')", "          disk call 3: write a.log", "   2  store.get(b'a')"], "a test"
    )
    assert [moment[4] for moment in data["moments"]] == [
        [[0, "store.put(b'a', b'1')"], [0, "disk call 3: write a.log"]],
        [[0, "store.get(b'a')"]],
    ]
    assert data["nodes"] == []


# ---- scripts ----------------------------------------------------------------------------------------------------------


def scripted(text: str) -> dict[str, Any]:
    """The film of a script."""
    data: dict[str, Any] = json.loads(
        json.dumps(film_of_script(parse_script("a.txt", text), random.Random(0), "a.txt"))
    )
    return data


ELECTION = """\
# Node 1 asks the others.

log-level none
----
ok

add-nodes 3 voters=(1,2,3) index=2
----
ok

campaign 1
----
ok

stabilize 1
----
ok

deliver-msgs drop=(3)
----
ok

stabilize
----
ok
"""


def test_a_script_is_a_film_of_its_commands_and_messages() -> None:
    """A moment for each command, with the comment above it, and for each message, also one that it drops."""
    data = scripted(ELECTION)
    assert data["violation"] == ""
    assert data["moments"][0][4] == [[0, "# Node 1 asks the others."], [0, "log-level none"]]
    commands = [moment[4][-1][1] for moment in data["moments"] if moment[2] == "command"]
    assert commands[-2:] == ["deliver-msgs drop=3", "stabilize"]
    votes = [(source, target, how) for source, target, kind, *_, how in data["messages"] if kind == "MsgVote"]
    assert votes == [(1, 2, 1), (1, 3, 2)]
    roles = [changes["1"].get("role") for *_, changes, _, _ in data["moments"] if "1" in changes]
    assert [role for role in roles if role] == ["follower", "candidate", "leader"]
    assert [moment[0] for moment in data["moments"]] == list(range(len(data["moments"])))


def test_a_scripts_film_ends_where_the_script_is_not_fulfilled() -> None:
    """With what was expected, and what came."""
    data = scripted(ELECTION.replace("campaign 1\n----\nok", "campaign 1\n----\nsomething else"))
    assert [0, "campaign 1"] in data["moments"][-1][4]
    assert data["violation"].startswith("not what the script says: a.txt:11: campaign 1")
    assert "-something else" in data["violation"] and "+ok" in data["violation"]


def test_a_script_about_quorums_has_no_film() -> None:
    with pytest.raises(ScriptError, match=r"a\.txt:1: a film is made of a script with nodes and messages"):
        scripted("committed cfg=(1) idx=(1)\n----\n1\n")


@pytest.mark.parametrize("file", sorted((REPOSITORY / "tests/raft/scripts").glob("0*.txt")), ids=lambda file: file.stem)
def test_filming_a_script_changes_none_of_its_output(file: Path) -> None:
    """Each of our own: as expected, and its nodes end where they do without a film."""
    script = parse_script(file.name, file.read_text("utf-8"))
    assert film_of_script(script, random.Random(0), file.name)["violation"] == ""


def test_a_script_is_filmed_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, film = tmp_path / "a.txt", tmp_path / "a.html"
    script.write_text(ELECTION, "utf-8")
    assert scripts(["--html", str(film), str(script)]) == 0
    assert "all as expected" in capsys.readouterr().out
    assert page_data(film.read_text("utf-8"))["nodes"] == [1, 2, 3]


# ---- other ends -------------------------------------------------------------------------------------------------------


def _replay(fork: dict[str, Any], data: dict[str, Any]) -> list[Any]:
    return list(data["moments"][: fork["same_moments"]] + fork["moments"])


@pytest.mark.parametrize(("seed", "profile"), RUNS[1:])
def test_a_forks_end_is_what_the_simulator_plays(
    seed: int, profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that the page shows for it makes the same run: the same lines, and the same end."""
    data = made(seed, profile, forks=2)
    assert data["forks"]
    for fork in data["forks"]:
        file = tmp_path / "other.html"
        words = ["--seed", str(seed), "--profile", profile, f"--{fork['kind']}", str(fork["number"])]
        main([*words, "--forks", "0", "--html", str(file)])
        other = page_data(file.read_text("utf-8"))
        assert told(other) == told({"moments": _replay(fork, data)})
        assert other["ended"] == fork["ended"]
        assert other["violation"] == fork["violation"]
        assert other["messages"] == data["messages"][: fork["same_messages"]] + fork["messages"]
        assert fork["same_moments"] == fork["at"], "the two are the same up to what was taken away"
    capsys.readouterr()


@pytest.mark.parametrize("number", [1, 40, 200])
def test_a_dropped_message_is_lost_and_nothing_before_it_changes(number: int) -> None:
    """`--drop`: sent, never there; up to it the run is what it was."""
    seed = RUNS[2][0]
    whole, plan = made(seed, "crashes"), plan_of(seed, "crashes")
    other = json.loads(json.dumps(film_of(replace(plan, dropped=frozenset({number})), run, title="", words="")))
    source, target, _, text, *_, how = other["messages"][number - 1]
    assert how == 3
    assert whole["messages"][number - 1][:6] == other["messages"][number - 1][:6]
    place = other["messages"][number - 1][5]
    assert other["moments"][:place] == whole["moments"][:place]
    lost = [target, f"never gets from {source:<3} {text}"]
    assert lost in other["moments"][place][4]


def test_a_film_of_a_planted_bug_ends_at_the_broken_property_with_ends_in_which_it_holds(tmp_path: Path) -> None:
    """A vote goes to any log. The functions in the page are those with the bug."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == "vote_goes_to_any_log"]
    with planted(mutant) as broken:
        seed = next(seed for seed in range(400) if broken.violation_of(broken.plan_of(seed)))
        plan = broken.plan_of(seed)
        violation = broken.violation_of(plan)
        assert broken.main(["--seed", str(seed), "--forks", "2", "--html", str(tmp_path / "film.html")]) == 1
    data = page_data((tmp_path / "film.html").read_text("utf-8"))
    assert data["violation"] == violation
    assert violation.startswith("Leader Completeness: node ")
    node = re.findall(r"node (\d+) leads", violation)[0]
    assert data["moments"][-1][5][node]["role"] == "leader", "its last moment is the one in which it was seen"
    assert any(not fork["violation"] for fork in data["forks"])
    sources = {name: source for _, name, _, source in data["functions"]}
    [hunk] = mutant.hunks
    planted_lines = [line.strip() for line in hunk.new.splitlines() if line not in hunk.old.splitlines()]
    assert any(planted_lines[0] in source for source in sources.values())


def test_an_unwatched_question_does_not_act() -> None:
    """What invariants ask a node between its calls isn't shown: `status` and the like are no roots."""
    film = Film()

    class Asking(Simulation):
        """Asks each node after each event."""

        def wake(self, peer: Peer) -> None:
            peer.node.status()
            super().wake(peer)

    plan = plan_of(5, "calm")
    asked = Asking(plan, random.Random, film)
    asked.run()
    film.ends()
    plain = Film()
    simulation = Simulation(plan, random.Random, plain)
    simulation.run()
    plain.ends()
    assert [moment.calls for moment in film.moments] == [moment.calls for moment in plain.moments]
